# SPDX-License-Identifier: Apache-2.0
"""Exception classes, and the texts of the errors that Python itself raises.

Every class has a built-in one as second base, so that `except` clauses of existing programs work.
"""

from __future__ import annotations

import functools
import sys
from typing import Any


class KernelHubError(Exception):
    """Base of all errors of kernelhub.

    `code` is the stable name of the failure, `hint` the next thing to do, `details` a JSON object
    with the facts.
    """

    code: str = ""
    hint: str = ""
    details: str = "{}"


class ArgumentError(KernelHubError, ValueError):
    """An argument or setting is not valid."""


class InvalidFile(KernelHubError, ValueError):
    """A metadata, lock or settings file cannot be parsed."""


class StorageError(KernelHubError, OSError):
    """A file or directory cannot be read or written."""


class NotLocked(KernelHubError, ValueError):
    """The lock file has no such kernel."""


class HubError(KernelHubError, OSError):
    """The hub refused or failed a request."""


class VersionNotFound(KernelHubError, ValueError):
    """The kernel has no such version."""


class NotCached(KernelHubError, ValueError, FileNotFoundError):
    """The cache lacks what was asked for, and the network may not be used."""


class NoVariant(KernelHubError, FileNotFoundError):
    """No build variant fits this process; the text lists each one and why."""


class Untrusted(KernelHubError, ValueError):
    """The trust policy does not allow the kernel."""


class IntegrityError(KernelHubError, ValueError):
    """The bytes of a package are not what they must be."""


class Incompatible(KernelHubError, RuntimeError):
    """The kernel does not fit this machine or this version of kernelhub."""


class DependencyError(KernelHubError, ImportError, ValueError):
    """A dependency of the kernel is unknown or missing."""


class LoadError(KernelHubError, ImportError):
    """The binary cannot be loaded."""


class KernelIdConflict(LoadError):
    """The id of the package is the name of another module of this process."""


# Hub errors are also those of huggingface_hub where a program has imported it and may catch them.
_HUB_CLIENT_NAMES = {
    "RepoNotFound": "RepositoryNotFoundError",
    "RevisionNotFound": "RevisionNotFoundError",
    "EntryNotFound": "EntryNotFoundError",
    "GatedRepo": "GatedRepoError",
}


def from_core(class_name: str, code: str, what: str, hint: str, details: str) -> KernelHubError:
    """The exception for an error of the C++ library; its table of codes chose the class."""
    made_by: type[KernelHubError] = globals()[class_name]
    client = sys.modules.get("huggingface_hub.errors")
    if made_by is HubError and client is not None:
        made_by = _joined(getattr(client, _HUB_CLIENT_NAMES.get(code, "HfHubHTTPError")))
    error = made_by(f"{what}\n{hint}" if hint else what)
    error.code, error.hint, error.details = code, hint, details
    return error


@functools.cache
def _joined(theirs: type[Exception]) -> type[HubError]:
    def initialise(self: HubError, *args: Any) -> None:
        # Theirs asks for an HTTP response, which the C++ client does not keep.
        Exception.__init__(self, *args)

    def reduce(self: HubError) -> tuple[Any, ...]:
        return HubError, self.args, self.__dict__

    body = {"__init__": initialise, "__reduce__": reduce, "__module__": "kernelhub"}
    joined: type[HubError] = type("HubError", (HubError, theirs), body)
    return joined


def neither_version_nor_revision() -> ArgumentError:
    """No version and no revision was given."""
    return ArgumentError(
        "A kernel version or revision must be specified\npass version=N, or revision= a branch, "
        "tag or commit"
    )


def version_and_revision(version: int, revision: str) -> ArgumentError:
    """Both a version and a revision were given."""
    return ArgumentError(
        f"Only one of version and revision may be specified, got version {version} and revision "
        f"'{revision}'\nleave one of them out"
    )


def unknown_python_dependency(kernel: str, dependency: str) -> DependencyError:
    """The package names a Python dependency that is not on the allow-list."""
    return DependencyError(
        f"Kernel {kernel} needs the Python dependency '{dependency}', which is not one that "
        "kernels may use\nask the publisher for a build without it"
    )


def missing_python_package(kernel: str, package: str) -> DependencyError:
    """A Python package that the kernel needs cannot be imported."""
    return DependencyError(
        f"Kernel {kernel} needs the Python package '{package}', which is not installed\n"
        f"pip install {package}",
        name=package,
    )


def id_conflict(package_id: str, directory: str, owner: str) -> KernelIdConflict:
    """The id of a package is taken by another module."""
    return KernelIdConflict(
        f"Kernel package {directory} has the id '{package_id}', which is {owner}\n"
        "use one of the two in a process of its own, or ask the publisher for a build with an id "
        "of its own",
        name=package_id,
        path=directory,
    )
