# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_process import Hub, start_hub

ROOT = Path(__file__).parents[2]
ORGANISATION = "kernels-test"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    running = start_hub(tmp_path_factory.mktemp("hub"), ORGANISATION)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project scale-by, built once: a torch stable ABI and a tvm-ffi variant."""
    folder = tmp_path_factory.mktemp("project") / "scale-by"
    shutil.copytree(ROOT / "tests/fixtures/projects/scale-by", folder)
    built = subprocess.run(
        [os.environ["KERNELHUB_CLI"], "build", str(folder), "--python", sys.executable, "--json"],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    statuses = {entry["variant"]: entry["status"] for entry in json.loads(built.stdout)["variants"]}
    assert statuses == {
        "torch-stable-abi210-cpu-x86_64-linux": "built",
        "tvm-ffi01-cpu-x86_64-linux": "built",
    }
    return folder


@pytest.fixture
def kernelhub(hub: Hub, tmp_path: Path) -> Run:
    """Runs the program against the hub with a home of its own."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "KERNELHUB_T", "LOCAL_KERNELS", "KERNELS_CACHE"))
    }
    policy = tmp_path / "trust.toml"
    policy.write_text(f'endpoints = ["{hub.url}"]\n')
    policy.chmod(0o600)
    environment |= {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "HF_HOME": str(tmp_path / "hf"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "KERNELHUB_TRUST_FILE": str(policy),
        "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"],
    }

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [os.environ["KERNELHUB_CLI"], *arguments],
            capture_output=True,
            text=True,
            env=environment | changes,
        )

    return run
