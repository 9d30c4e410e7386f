# SPDX-License-Identifier: Apache-2.0
"""Requests that were answered before and whose answer cannot have changed.

A commit never changes, and offline a version is what the cache's ref file says; a local repository
is watched by the time stamps of the folders that were searched and of the files that were judged.
Everything else walks the whole pipeline again.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from types import ModuleType

from kernelhub import _kernelhub, loaded
from kernelhub.settings import CallSettings, hub_client_offline

# Variables that may lead the same request elsewhere.
_VARIABLES = (
    "LOCAL_KERNELS",
    "KERNELS_CACHE",
    "HF_HUB_CACHE",
    "HF_HOME",
    "XDG_CACHE_HOME",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "KERNELHUB_TRUST",
    "KERNELHUB_TRUST_FILE",
)
# Device, inode, size, and the times of the last change of content and of attributes.
_Identity = tuple[int, int, int, int, int]
_COMMIT = re.compile("[0-9a-fA-F]{40}")
_OFF = {None, "", "0", "false", "no", "off"}


@dataclass(frozen=True)
class HubRequest:
    """A request with everything that its answer depends on."""

    repo_id: str
    version: int | None
    revision: str | None
    settings: CallSettings
    environment: tuple[str | None, ...]
    hub_client_offline: bool | None

    @staticmethod
    def of(
        repo_id: str, version: int | None, revision: str | None, settings: CallSettings
    ) -> HubRequest:
        """The request as the environment stands now."""
        environment = tuple(map(os.environ.get, _VARIABLES))
        return HubRequest(repo_id, version, revision, settings, environment, hub_client_offline())

    @property
    def by_commit(self) -> bool:
        """The revision is a full commit id."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    @property
    def offline(self) -> bool:
        """Only the cache may answer."""
        if self.settings.local_files_only or self.hub_client_offline:
            return True
        named = dict(zip(_VARIABLES, self.environment, strict=True))
        return self.hub_client_offline is None and any(
            (named[name] or "").lower() not in _OFF
            for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        )


@dataclass(frozen=True)
class _Watched:
    """A module, and the files or folders that must be as they were."""

    module: ModuleType
    paths: tuple[tuple[str, _Identity], ...]

    def is_current(self) -> bool:
        try:
            return all(_identity(path) == identity for path, identity in self.paths)
        except OSError:
            return False


_hub: dict[HubRequest, _Watched] = {}
_local: dict[tuple[loaded.DirectoryKey, str | None], _Watched] = {}


def find(request: HubRequest) -> ModuleType | None:
    """The module of an equal request, if its answer still holds."""
    return _current(_hub.get(request))


def keep(request: HubRequest, verified: _kernelhub.VerifiedPackage, module: ModuleType) -> None:
    """Remember the answer of a request by commit, or offline."""
    if verified.commit is None:
        return
    if request.by_commit:
        _hub[request] = _Watched(module, ())
    elif request.offline:
        # <repository>/snapshots/<commit>/build/<variant> and <repository>/refs/<name>
        repository = os.path.normpath(os.path.join(verified.directory, *[os.pardir] * 4))
        name = f"v{request.version}" if request.version is not None else str(request.revision)
        ref = os.path.join(repository, "refs", name)
        if os.path.exists(ref):
            _hub[request] = _Watched(module, ((ref, _identity(ref)),))


def find_local(path: str | os.PathLike[str], backend: str | None) -> ModuleType | None:
    """The module of a local path that has not changed since."""
    try:
        key = loaded.directory_key(path)
    except OSError:
        return None
    return _current(_local.get((key, backend)))


def searched_folders(path: str | os.PathLike[str]) -> dict[str, _Identity]:
    """The folders in which variants of a local path are looked for, as they are now."""
    found = {}
    for folder in (os.path.realpath(path), os.path.join(os.path.realpath(path), "build")):
        with contextlib.suppress(OSError):
            found[folder] = _identity(folder)
    return found


def keep_local(
    path: str | os.PathLike[str],
    backend: str | None,
    folders: dict[str, _Identity],
    verified: _kernelhub.VerifiedPackage,
    module: ModuleType,
) -> None:
    """Remember which module a local path led to.

    `folders` were looked at before the search; files count as they were before they were hashed.
    """
    watched = dict(folders)
    for file in verified.paths:
        status = os.fstat(verified.descriptor(file))
        place = os.path.join(verified.directory, file)
        watched[place] = (status.st_dev, status.st_ino, status.st_size, *verified.times(file))
    try:
        key = loaded.directory_key(path)
    except OSError:
        return  # deleted meanwhile: there is nothing to find again
    _local[key, backend] = _Watched(module, tuple(watched.items()))


def _current(entry: _Watched | None) -> ModuleType | None:
    return entry.module if entry is not None and entry.is_current() else None


def _identity(path: str) -> _Identity:
    status = os.stat(path)
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
