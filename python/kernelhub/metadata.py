# SPDX-License-Identifier: Apache-2.0
"""metadata.json of a package as values."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any

from kernelhub import _kernelhub


@dataclass(frozen=True)
class KernelName:
    """Name of a kernel as in its repository."""

    name: str

    @property
    def python_name(self) -> str:
        """The name with '-' replaced by '_'."""
        return self.name.replace("-", "_")

    def __str__(self) -> str:
        return self.name


@functools.total_ordering
@dataclass(frozen=True, eq=False)
class Version:
    """Dotted numbers; trailing zeros do not count in comparisons."""

    text: str

    @property
    def _key(self) -> tuple[int, ...]:
        parts = [int(part) for part in self.text.split(".")]
        while parts and parts[-1] == 0:
            parts.pop()
        return tuple(parts)

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)


@dataclass(frozen=True)
class KernelDependency:
    """Another kernel that a package needs: by version or by revision."""

    repo_id: str
    version: int | None
    revision: str | None


@dataclass(frozen=True)
class BackendInfo:
    """Backend of a build and the device architectures that it has code for."""

    backend_type: str
    archs: list[str] | None


@dataclass(frozen=True)
class Digest:
    """Hash of each file of the variant: relative path -> base64."""

    algorithm: str
    files: dict[str, str]


@dataclass(frozen=True)
class GitStatus:
    """State of a git working tree."""

    commit: str
    dirty: bool


@dataclass(frozen=True)
class KernelBuilderVersion:
    """The builder that made a build."""

    version: str
    git: GitStatus | None


@dataclass(frozen=True)
class Provenance:
    """Where a build comes from."""

    kernel_builder: KernelBuilderVersion
    kernel: GitStatus | None

    @property
    def dirty(self) -> bool:
        """Builder or sources had changes that no commit holds."""
        git = self.kernel_builder.git
        return bool((git and git.dirty) or (self.kernel and self.kernel.dirty))


@dataclass(frozen=True)
class Metadata:
    """What a package says about itself; made by `read_from_file` or `from_bytes`."""

    id: str
    name: KernelName
    version: int
    kernels_minver: Version | None
    license: str
    upstream: str | None
    source: str | None
    python_depends: list[str]
    kernel_depends: list[KernelDependency]
    backend: BackendInfo
    digest: Digest | None
    provenance: Provenance | None

    @staticmethod
    def read_from_file(path: str | os.PathLike[str]) -> Metadata:
        """Read a metadata.json.

        Raises InvalidFile (a ValueError) for other content, OSError when it cannot be read.
        """
        with open(path, "rb") as file:
            content = file.read()
        return Metadata.from_canonical(_kernelhub.canonical_metadata(content, os.fspath(path)))

    @staticmethod
    def from_bytes(content: bytes) -> Metadata:
        """Parse the bytes of a metadata.json; raises InvalidFile (a ValueError)."""
        return Metadata.from_canonical(_kernelhub.canonical_metadata(content, "metadata.json"))

    @staticmethod
    def from_canonical(text: str) -> Metadata:
        """Build the value from text that the strict parser has written."""
        import json

        facts: dict[str, Any] = json.loads(text)
        minver = facts.get("kernels-minver")
        digest = facts.get("digest")
        return Metadata(
            id=facts["id"],
            name=KernelName(facts["name"]),
            version=facts["version"],
            kernels_minver=Version(minver) if minver is not None else None,
            license=facts["license"],
            upstream=facts.get("upstream"),
            source=facts.get("source"),
            python_depends=facts["python-depends"],
            kernel_depends=[
                KernelDependency(item["repo-id"], item.get("version"), item.get("revision"))
                for item in facts.get("kernel-depends", [])
            ],
            backend=BackendInfo(facts["backend"]["type"], facts["backend"].get("archs")),
            digest=Digest(digest["algorithm"], digest["files"]) if digest else None,
            provenance=_provenance(facts.get("provenance")),
        )


def _provenance(facts: dict[str, Any] | None) -> Provenance | None:
    if facts is None:
        return None
    builder = facts["kernel-builder"]
    return Provenance(
        KernelBuilderVersion(builder["version"], _git_status(builder)),
        _git_status(facts.get("kernel", {})),
    )


def _git_status(facts: dict[str, Any]) -> GitStatus | None:
    return GitStatus(facts["commit"], facts["dirty"]) if "commit" in facts else None
