# SPDX-License-Identifier: Apache-2.0
"""From the arguments of a call to the options of the C++ library."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from dataclasses import dataclass

from kernelhub import _kernelhub
from kernelhub.errors import neither_version_nor_revision, version_and_revision
from kernelhub.python_depends import require_python_depends
from kernelhub.system import system_info

UserAgent = str | dict[str, str] | None
TrustRemoteCode = bool | Collection[str]


@dataclass(frozen=True)
class CallSettings:
    """Arguments that the functions of the package share; hashable."""

    backend: str | None = None
    check_arch: bool = True
    trust_remote_code: bool | frozenset[str] = False
    user_agent: str | None = None
    local_files_only: bool = False
    cache_dir: str | None = None
    endpoint: str | None = None
    token: str | None = None

    def options(self, *, check_python_depends: bool) -> _kernelhub.LoadOptions:
        """Options of one C++ call; reads the environment."""
        options = _kernelhub.LoadOptions()
        options.backend = self.backend
        options.check_arch = self.check_arch
        options.local_files_only = self.local_files_only
        if self.trust_remote_code is True:
            options.trust_all()
        elif self.trust_remote_code is not False:
            options.trust_repos(sorted(self.trust_remote_code))
        system = system_info()
        options.set_system(system)
        options.set_config(self._config(system))
        if check_python_depends:
            options.set_metadata_check(require_python_depends)
        return options

    def _config(self, system: _kernelhub.SystemInfo) -> _kernelhub.Config:
        config = _kernelhub.Config.from_env()
        offline = hub_client_offline()
        if offline is not None:
            config.offline = offline
        if self.cache_dir is not None:
            config.set_cache_dir(self.cache_dir)
        if self.endpoint is not None:
            config.endpoint = self.endpoint.rstrip("/")
        if self.token is not None:
            config.set_token(self.token)
        if config.telemetry:
            config.user_agent = "; ".join(_user_agent_fields(self.user_agent, system))
        return config


def call_settings(
    *,
    backend: str | None = None,
    check_arch: bool = True,
    trust_remote_code: TrustRemoteCode = False,
    user_agent: UserAgent = None,
    local_files_only: bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> CallSettings:
    """Check and normalise arguments; raises TypeError for a wrong type."""
    return CallSettings(
        backend,
        bool(check_arch),
        _trusted(trust_remote_code),
        _user_agent_text(user_agent),
        bool(local_files_only),
        os.fspath(cache_dir) if cache_dir is not None else None,
        endpoint,
        token,
    )


def require_one_of(version: int | None, revision: str | None) -> int | None:
    """Check that exactly one is given; the version as a number.

    Raises ArgumentError, TypeError for a version that is no number, OverflowError below zero.
    """
    if version is None and revision is None:
        raise neither_version_nor_revision()
    if version is None:
        return None
    if revision is not None:
        raise version_and_revision(version, revision)
    if isinstance(version, str) and version.isdecimal():
        version = int(version)
    if not isinstance(version, int):
        raise TypeError(f"version must be an int, not {type(version).__name__}")
    if version < 0:
        raise OverflowError(f"version must not be negative, got {version}")
    return version


def hub_client_offline() -> bool | None:
    """The offline switch of huggingface_hub when that is imported: users and tests patch it."""
    constants = sys.modules.get("huggingface_hub.constants")
    return bool(constants.HF_HUB_OFFLINE) if constants is not None else None


def _trusted(value: TrustRemoteCode) -> bool | frozenset[str]:
    if isinstance(value, bool):
        return value
    if isinstance(value, Collection) and not isinstance(value, (str, bytes)):
        repos = frozenset(value)
        if all(isinstance(repo, str) for repo in repos):
            return repos
    raise TypeError(f"trust_remote_code must be a bool or a list of repository ids, got {value!r}")


def _user_agent_text(user_agent: UserAgent) -> str | None:
    if isinstance(user_agent, dict):
        return "; ".join(f"{key}/{value}" for key, value in user_agent.items())
    return user_agent


def _user_agent_fields(own: str | None, system: _kernelhub.SystemInfo) -> list[str]:
    fields = [own] if own else []
    fields.append(f"python/{sys.version_info.major}.{sys.version_info.minor}")
    fields.append(f"backend/{system.backend}")
    if system.torch is not None:
        fields.append(f"torch/{system.torch}")
    if system.tvm_ffi is not None:
        fields.append(f"tvm-ffi/{system.tvm_ffi}")
    return fields
