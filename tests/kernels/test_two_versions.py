# SPDX-License-Identifier: Apache-2.0
"""Two versions of a package in one process: own ops, own gradients, own compiled graphs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import pathlib
import sys
import kernels
import torch
one, two = (kernels.get_local_kernel(pathlib.Path(p), backend="cpu") for p in sys.argv[1:])
assert one.ops.relu.default._schema.name != two.ops.relu.default._schema.name
x = torch.randn(3, 64, requires_grad=True)
for package in (one, two, one):
    torch.autograd.grad(package.relu(x).sum(), x)
for package in (one, two):
    compiled = torch.compile(package.layers.ReLU(), fullgraph=True, backend="aot_eager")
    (grad,) = torch.autograd.grad(compiled(x).sum(), x)
    assert torch.equal(grad, (x > 0).float())
step = torch.compile(lambda v: one.relu(v) + two.relu(-v), fullgraph=True, backend="aot_eager")
assert torch.equal(step(x), x.abs())
print("computed")
"""


@pytest.mark.usefixtures("load_package")
def test_both_compute_differentiate_and_compile(tmp_path: Path) -> None:
    cli = os.environ.get("KERNELHUB_CLI")
    if cli is None:
        pytest.skip("KERNELHUB_CLI names no kernelhub program")
    packages = Path(os.environ["KERNELHUB_PACKAGES_DIR"])
    for name in ("relu", "primitives"):
        shutil.copytree(packages / name, tmp_path / name, ignore=shutil.ignore_patterns("build"))
    config = tmp_path / "relu" / "build.toml"
    text = config.read_text()
    config.write_text(text.replace("\nversion = 1\n", "\nversion = 2\n"))
    assert config.read_text() != text
    build = [cli, "build", tmp_path / "relu", "--backend", "cpu", "--python", sys.executable]
    subprocess.run(build, check=True, capture_output=True)
    command = [sys.executable, "-c", SCRIPT, packages / "relu", tmp_path / "relu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "computed\n", done.stderr
