# SPDX-License-Identifier: Apache-2.0
"""benchmarks/benchmark.py of every package, run by the `kernels` client's runner."""

import os
from pathlib import Path

import pytest
import torch
from kernels.cli import benchmark as runner

PACKAGES = Path(__file__).parents[2] / "kernels-community"
PROJECTS = [path.parent.name for path in sorted(PACKAGES.glob("*/build.toml"))]


def run(project: Path) -> dict[str, runner.TimingResults]:
    found: dict[str, runner.TimingResults] = {}
    for script in runner.discover_benchmark_scripts(str(project), project):
        results, _ = runner.run_benchmark_script(
            script_path=script,
            iterations=1,
            warmup=0,
            cwd=project,
            repo_id=str(project),
            is_local=True,
            revision="local",
        )
        found |= results
    return found


@pytest.mark.parametrize("name", PROJECTS)
def test_a_packages_benchmark_is_run_and_verified_by_the_kernels_client(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The runner knows no --backend: it takes CUDA's build wherever torch is built for CUDA.
    monkeypatch.setattr(torch.version, "cuda", None)
    root = os.environ.get("KERNELHUB_PACKAGES_DIR")
    if root is None:
        pytest.skip("KERNELHUB_PACKAGES_DIR names no folder of built packages")
    results = run(Path(root) / name)
    assert results
    assert all(result.verified for result in results.values())
