# SPDX-License-Identifier: Apache-2.0
"""The kernels that this process has loaded through Python."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from types import ModuleType

from kernelhub.metadata import Metadata


@dataclass(frozen=True)
class RepoInfo:
    """Where on the hub a kernel comes from.

    `revision` is the revision as it was asked for; for a version it is the commit.
    """

    repo_id: str
    revision: str


@dataclass(frozen=True)
class LoadedKernel:
    """A loaded kernel; `repo_info` is None when it came from a local directory."""

    metadata: Metadata
    module: ModuleType
    repo_info: RepoInfo | None


# Device and inode of a directory: one file system object however its path is spelled.
DirectoryKey = tuple[int, int]

# By directory and digest: a directory that is filled anew holds another kernel.
_loaded: dict[tuple[DirectoryKey, str], LoadedKernel] = {}
# Open descriptors of those directories: an inode number in use is not given to another one.
_held: dict[DirectoryKey, int] = {}
_lock = threading.Lock()


def directory_key(directory: str | os.PathLike[str]) -> DirectoryKey:
    """Identity of a directory; raises OSError when there is none."""
    status = os.stat(directory)
    return status.st_dev, status.st_ino


def find(directory: str, variant_digest: str) -> LoadedKernel | None:
    """The kernel loaded from that directory when it had this content."""
    return _loaded.get((directory_key(directory), variant_digest))


def add(directory: int, variant_digest: str, kernel: LoadedKernel) -> LoadedKernel:
    """Record a kernel; of two concurrent callers the first one's record stays.

    `directory` is a descriptor of the caller's.
    """
    status = os.fstat(directory)
    key = (status.st_dev, status.st_ino)
    with _lock:
        if key not in _held:
            _held[key] = os.dup(directory)
        return _loaded.setdefault((key, variant_digest), kernel)


def get_loaded_kernels() -> list[LoadedKernel]:
    """Every kernel of this process, one per variant directory and content, in order of loading.

    The list is new: changing it changes nothing else.
    """
    with _lock:
        return list(_loaded.values())
