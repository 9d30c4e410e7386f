# SPDX-License-Identifier: Apache-2.0
"""One op namespace, two copies of its library in one process: torch allows one registration."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

pytest.importorskip("kernelhub")

SCRIPT = """
import sys
import torch
import kernelhub
# As another client does: the library by its path, the module under a name of its own.
torch.ops.load_library(sys.argv[1])
module = kernelhub.get_local_kernel(sys.argv[2], backend="cpu")
x = torch.randn(3, 64)
out = torch.empty_like(x)
module.gelu_fast(out, x)
assert torch.allclose(out, torch.nn.functional.gelu(x, approximate="tanh"), atol=1e-5)
print("computed")
"""


TWO_COPIES = """
import importlib.util
import sys
import kernelhub
import torch
ours = kernelhub.get_local_kernel(sys.argv[1], backend="cpu")
# As another client does: the same build, the modules under names of its own.
spec = importlib.util.spec_from_file_location("their_activation", sys.argv[2])
theirs = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = theirs
spec.loader.exec_module(theirs)
assert ours.layers is not theirs.layers
x = torch.randn(3, 64, requires_grad=True)
for package in (ours, theirs):
    torch.compile(package.layers.Silu(), fullgraph=True, backend="aot_eager")(x).sum().backward()
print("differentiated")
"""


@pytest.fixture
def variant(tmp_path: Path) -> Path:
    root = os.environ.get("KERNELHUB_PACKAGES_DIR")
    if root is None:
        pytest.skip("KERNELHUB_PACKAGES_DIR names no folder of built packages")
    (built,) = (Path(root) / "activation" / "build").glob("torch-stable-abi*-cpu-*")
    return Path(shutil.copytree(built, tmp_path / "repository" / "build" / built.name))


def load_after(library: Path, variant: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, library, variant.parents[1]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_mapped_library_of_the_same_bytes_is_used(variant: Path, tmp_path: Path) -> None:
    (library,) = variant.glob("*.so")
    copy = Path(shutil.copy(library, tmp_path / library.name))
    done = load_after(copy, variant)
    assert done.stdout == "computed\n", done.stderr


def test_a_mapped_library_of_other_bytes_is_an_error_and_not_the_end(
    variant: Path, tmp_path: Path
) -> None:
    (library,) = variant.glob("*.so")
    copy = Path(shutil.copy(library, tmp_path / library.name))
    with library.open("ab") as file:
        file.write(b"appended, after everything that is mapped")
    metadata = json.loads((variant / "metadata.json").read_text())
    algorithm = metadata["digest"]["algorithm"]
    digest = hashlib.new(algorithm, library.read_bytes()).digest()
    metadata["digest"]["files"][library.name] = b64encode(digest).decode()
    (variant / "metadata.json").write_text(json.dumps(metadata))
    done = load_after(copy, variant)
    assert done.returncode == 1, done.stderr
    assert "already belongs to" in done.stderr
    assert str(copy) in done.stderr


def test_the_modules_of_two_clients_share_the_gradients(variant: Path) -> None:
    command = [sys.executable, "-c", TWO_COPIES, variant.parents[1], variant / "__init__.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "differentiated\n", done.stderr
