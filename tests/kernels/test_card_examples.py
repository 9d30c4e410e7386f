# SPDX-License-Identifier: Apache-2.0
"""Python of the README, and of every package's page with the peer's client and with ours."""

import functools
import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent.name for path in (ROOT / "kernels-community").glob("*/CARD.md"))
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def use_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a built package in place of its repository for a client; the package's folder."""

    def use(client: str, package: str) -> Path:
        if "KERNELHUB_PACKAGES_DIR" not in os.environ:
            pytest.skip("KERNELHUB_PACKAGES_DIR names no folder of built packages")
        folder = Path(os.environ["KERNELHUB_PACKAGES_DIR"]) / package
        monkeypatch.setenv("LOCAL_KERNELS", f"kernels-community/{package}={folder}")
        # A torch built with CUDA asks for the CUDA variant, on a machine without a GPU too.
        module = importlib.import_module(client)
        for name in ("get_kernel", "has_kernel"):
            on_cpu = functools.partial(getattr(module, name), backend="cpu")
            monkeypatch.setattr(module, name, on_cpu)
        return folder

    return use


@pytest.mark.parametrize("client", ["kernels", "kernelhub"])
@pytest.mark.parametrize("package", PACKAGES)
def test_the_examples_of_a_card_run(
    package: str, client: str, use_on_cpu: Callable[[str, str], Path]
) -> None:
    folder = use_on_cpu(client, package)
    blocks = BLOCK.findall((folder / "build" / "CARD.md").read_text())
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(block.replace("from kernels import", f"from {client} import"), names)
    computed = [names[name] for name in ("out", "output", "q", "x") if name in names]
    assert computed
    for tensor in computed:
        assert isinstance(tensor, torch.Tensor) and tensor.isfinite().all()


def test_the_python_of_the_readme_runs(use_on_cpu: Callable[[str, str], Path]) -> None:
    use_on_cpu("kernelhub", "activation")
    (block,) = BLOCK.findall((ROOT / "README.md").read_text())
    x = torch.linspace(-3, 3, 64)
    names = {"x": x, "out": torch.full_like(x, torch.nan)}
    exec(block, names)
    torch.testing.assert_close(names["out"], torch.nn.functional.gelu(x, approximate="tanh"))
