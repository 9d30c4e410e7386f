# SPDX-License-Identifier: Apache-2.0
"""From a repository id or a path to an imported module."""

from __future__ import annotations

import os
import time
from types import ModuleType
from typing import TYPE_CHECKING

from kernelhub import _kernelhub, importer, loaded, warm
from kernelhub.loaded import LoadedKernel, RepoInfo
from kernelhub.metadata import Metadata
from kernelhub.settings import (
    CallSettings,
    TrustRemoteCode,
    UserAgent,
    call_settings,
    require_one_of,
)
from kernelhub.variants import VariantAccepted, VariantRejected, from_decision

if TYPE_CHECKING:
    from pathlib import Path


def get_kernel(
    repo_id: str,
    *,
    revision: str | None = None,
    version: int | None = None,
    backend: str | None = None,
    user_agent: UserAgent = None,
    trust_remote_code: TrustRemoteCode = False,
    check_arch: bool = True,
    local_files_only: bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> ModuleType:
    """Resolve, download, verify and import a kernel of the hub.

    Exactly one of `version` (N, the branch vN) and `revision` (branch, tag or commit) is needed.
    `backend` is "cpu" or the detected one. `trust_remote_code` is True, or a list of repository
    ids, to allow publishers that the hub does not vouch for. `check_arch=False` allows a package
    without code for the devices of this machine. `local_files_only` uses the cache alone.

    Blocks on network and disk. Any thread may call; concurrent calls for one kernel get one module.
    A loaded kernel costs one request by version and none by commit.

    Raises ArgumentError, VersionNotFound, NoVariant (its text lists every variant and why it does
    not fit), Untrusted, NotCached, HubError, DependencyError, Incompatible, IntegrityError,
    LoadError, and whatever the package raises, with a note that names the kernel.
    """
    version = require_one_of(version, revision)
    settings = call_settings(
        backend=backend,
        check_arch=check_arch,
        trust_remote_code=trust_remote_code,
        user_agent=user_agent,
        local_files_only=local_files_only,
        cache_dir=cache_dir,
        endpoint=endpoint,
        token=token,
    )
    request = warm.HubRequest.of(repo_id, version, revision, settings)
    module = warm.find(request)
    if module is not None:
        return module
    began = time.perf_counter()
    options = settings.options(check_python_depends=True)
    verified = _kernelhub.get_verified_package(repo_id, version, revision, options)
    asked_for = revision if version is None else verified.commit
    module = _import(verified, repo_id, asked_for, options, began)
    warm.keep(request, verified, module)
    return module


def get_local_kernel(
    repo_path: str | os.PathLike[str],
    *,
    backend: str | None = None,
    trust_remote_code: TrustRemoteCode = False,
    user_agent: UserAgent = None,
) -> ModuleType:
    """Verify and import a kernel from a local directory.

    `repo_path` is a repository, its build/ folder or one variant folder; all three give the same
    module. The caller vouches for the files: there is no trust check.

    Raises NoVariant, InvalidFile, Untrusted (files that others may change), IntegrityError,
    DependencyError, LoadError, and whatever the package raises, with a note.
    """
    settings = call_settings(
        backend=backend, trust_remote_code=trust_remote_code, user_agent=user_agent
    )
    module = warm.find_local(repo_path, backend)
    if module is not None:
        return module
    began = time.perf_counter()
    folders = warm.searched_folders(repo_path)
    options = settings.options(check_python_depends=True)
    verified = _kernelhub.get_verified_local_package(os.fspath(repo_path), options)
    module = _import(verified, None, None, options, began)
    warm.keep_local(repo_path, backend, folders, verified, module)
    return module


def has_kernel(
    repo_id: str,
    *,
    revision: str | None = None,
    version: int | None = None,
    backend: str | None = None,
    trust_remote_code: TrustRemoteCode = False,
    check_arch: bool = True,
    local_files_only: bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> bool:
    """Whether a build fits this process; fetches listings and metadata only.

    False means no fitting variant, not cached while offline, or no code for the devices of this
    machine; every other failure raises as in `get_kernel`. Python dependencies are not tested.
    """
    version = require_one_of(version, revision)
    settings = call_settings(
        backend=backend,
        check_arch=check_arch,
        trust_remote_code=trust_remote_code,
        local_files_only=local_files_only,
        cache_dir=cache_dir,
        endpoint=endpoint,
        token=token,
    )
    options = settings.options(check_python_depends=False)
    return _kernelhub.has_kernel(repo_id, version, revision, options)


def install_kernel(
    repo_id: str,
    *,
    revision: str | None = None,
    version: int | None = None,
    backend: str | None = None,
    local_files_only: bool = False,
    user_agent: UserAgent = None,
    trust_remote_code: TrustRemoteCode = False,
    cache_dir: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> Path:
    """Download and verify a kernel without importing it; the path of its variant folder.

    Raises as `get_kernel` does before it imports; Python dependencies and device architectures are
    not tested.
    """
    from pathlib import Path

    version = require_one_of(version, revision)
    settings = call_settings(
        backend=backend,
        check_arch=False,
        trust_remote_code=trust_remote_code,
        user_agent=user_agent,
        local_files_only=local_files_only,
        cache_dir=cache_dir,
        endpoint=endpoint,
        token=token,
    )
    options = settings.options(check_python_depends=False)
    return Path(_kernelhub.install_kernel(repo_id, version, revision, options))


def get_kernel_variants(
    repo_id: str,
    *,
    revision: str | None = None,
    version: int | None = None,
    backend: str | None = None,
) -> list[VariantAccepted | VariantRejected]:
    """Decisions for all variants of a kernel, compatible ones first, best first.

    Nothing is fetched but listings, and no trust is needed. Raises ArgumentError, VersionNotFound,
    NotCached, HubError.
    """
    version = require_one_of(version, revision)
    options = CallSettings(backend=backend).options(check_python_depends=False)
    decisions = _kernelhub.get_kernel_variants(repo_id, version, revision, options)
    return [from_decision(decision) for decision in decisions]


def _import(
    verified: _kernelhub.VerifiedPackage,
    repo_id: str | None,
    revision: str | None,
    options: _kernelhub.LoadOptions,
    began: float,
) -> ModuleType:
    kernel = loaded.find(verified.directory, verified.variant_digest)
    if kernel is not None:
        return kernel.module
    # An override by LOCAL_KERNELS comes from a directory, not from the repository.
    from_hub = repo_id is not None and revision is not None and verified.commit is not None
    repo_info = RepoInfo(repo_id, revision) if from_hub else None  # type: ignore[arg-type]
    metadata = Metadata.from_canonical(verified.metadata_json)
    where = f"{repo_id}, revision {revision}" if from_hub else verified.directory
    origin = f"kernel '{metadata.name}', variant '{verified.variant}' ({where})"
    # Held from before the package runs: its folder may be deleted meanwhile.
    directory = os.open(verified.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        module, executed = importer.import_package(verified, origin)
        kernel = LoadedKernel(metadata, module, repo_info)
        kernel = loaded.add(directory, verified.variant_digest, kernel)
    finally:
        os.close(directory)
    if executed:
        mode = "sealed" if verified.needs_sealed else "fd"
        milliseconds = (time.perf_counter() - began) * 1e3
        _kernelhub.audit_load(verified, mode, milliseconds, options)
    return kernel.module
