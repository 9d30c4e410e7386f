# SPDX-License-Identifier: Apache-2.0
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_process import Hub, start_hub

TRUSTED_ORG = "kernels-test"


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One hub for all tests of a run; its organisation TRUSTED_ORG is a trusted publisher."""
    running = start_hub(tmp_path_factory.mktemp("hub"), TRUSTED_ORG)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's home or environment reaches a test."""
    for name in list(os.environ):
        if name.startswith(("HF_", "KERNELHUB_TRUST", "LOCAL_KERNELS", "KERNELS_CACHE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def trusted_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub as the endpoint in use, listed in the policy so that its publisher flag counts."""
    policy = tmp_path / "trust.toml"
    policy.write_text(f'endpoints = ["{hub.url}"]\n')
    policy.chmod(0o600)
    monkeypatch.setenv("KERNELHUB_TRUST_FILE", str(policy))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    return hub


@pytest.fixture
def package_id() -> str:
    """A module name that no other test uses: modules live as long as the process."""
    return f"_toy_cpu_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def new_repo() -> Callable[[], str]:
    """Names of repositories of the trusted organisation that no other test uses."""
    return lambda: f"{TRUSTED_ORG}/toy-{uuid.uuid4().hex[:8]}"
