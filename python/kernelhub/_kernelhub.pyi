# SPDX-License-Identifier: Apache-2.0
# Written by tools/make_stubs.
"""
Bindings of the torch-free C++ library; use the package kernelhub instead.
"""

from __future__ import annotations
import collections.abc
import typing

__all__: list[str] = [
    "Config",
    "LoadOptions",
    "SystemInfo",
    "Variant",
    "VariantDecision",
    "VerifiedPackage",
    "audit_load",
    "canonical_metadata",
    "get_kernel_variants",
    "get_verified_local_package",
    "get_verified_package",
    "has_kernel",
    "install_kernel",
    "system",
]

class Config:
    """
    Settings of one call, taken from the environment.
    """
    @staticmethod
    def from_env() -> Config:
        """
        Reads the environment and the token file.
        """
    def set_cache_dir(self, folder: str) -> None:
        """
        Root of the shared cache.
        """
    def set_token(self, token: str) -> None:
        """
        Uses this access token instead of the one that was found.
        """
    @property
    def endpoint(self) -> str:
        """
        URL of the hub, without a trailing slash.
        """
    @endpoint.setter
    def endpoint(self, arg0: str) -> None: ...
    @property
    def offline(self) -> bool:
        """
        Use the cache only.
        """
    @offline.setter
    def offline(self, arg0: bool) -> None: ...
    @property
    def telemetry(self) -> bool:
        """
        Facts may be sent in the User-Agent header.
        """
    @property
    def user_agent(self) -> str:
        """
        Facts of the caller for the User-Agent header.
        """
    @user_agent.setter
    def user_agent(self, arg0: str) -> None: ...

class SystemInfo:
    """
    Facts that decide which variant fits.
    """
    def set_backend(self, compute_name: str) -> None:
        """
        Sets the backend, e.g. cpu or cu130.
        """
    @property
    def backend(self) -> str:
        """
        Compute part of a variant name, e.g. cu130.
        """
    @property
    def cpu(self) -> str:
        """
        x86_64 or aarch64.
        """
    @property
    def glibc(self) -> str:
        """
        Version of the C library.
        """
    @property
    def os(self) -> str:
        """
        linux.
        """
    @property
    def torch(self) -> str | None:
        """
        major.minor of torch, or None.
        """
    @torch.setter
    def torch(self, arg1: str | None) -> None: ...
    @property
    def torch_cxx11_abi(self) -> bool | None:
        """
        C++11 ABI flag of torch, None when unknown.
        """
    @torch_cxx11_abi.setter
    def torch_cxx11_abi(self, arg0: bool | None) -> None: ...
    @property
    def tvm_ffi(self) -> str | None:
        """
        major.minor of tvm-ffi, or None.
        """
    @tvm_ffi.setter
    def tvm_ffi(self, arg1: str | None) -> None: ...

class VariantDecision:
    """
    Why a variant was chosen or not.
    """
    @property
    def accepted(self) -> bool:
        """
        The variant fits.
        """
    @property
    def reason(self) -> str:
        """
        What differs; empty when it fits.
        """
    @property
    def variant(self) -> str:
        """
        Name of the variant directory.
        """

class Variant:
    """
    A build variant, parsed from its directory name.
    """
    @staticmethod
    def parse(directory_name: str) -> Variant | None:
        """
        None for a name outside the grammar.
        """
    @property
    def backend(self) -> str | None:
        """
        Compute part of the name, None for noarch variants.
        """
    @property
    def cpu(self) -> str:
        """
        CPU part of the name.
        """
    @property
    def is_noarch(self) -> bool:
        """
        Pure Python: no binary for one CPU and system.
        """
    @property
    def os(self) -> str:
        """
        System part of the name.
        """
    @property
    def variant_str(self) -> str:
        """
        The directory name.
        """

class VerifiedPackage:
    """
    A variant whose every byte was compared with what it must be. Keeps one descriptor per file open for its life.
    """
    def descriptor(self, path: str) -> int:
        """
        Descriptor of one file, owned by the package.
        """
    def read(self, path: str) -> bytes:
        """
        Verified content of one file.
        """
    def require_loadable(self, path: str) -> None:
        """
        ELF checks on one file before anything of it runs; raises LoadError.
        """
    def require_mapped_copy(self, path: str, op_namespace: str) -> str:
        """
        Name by which dlopen gives the mapped library of the same bytes; raises LoadError when the op namespace belongs to other bytes.
        """
    def require_unchanged(self, path: str) -> None:
        """
        Raises IntegrityError when the file was written since before it was verified.
        """
    def times(self, path: str) -> tuple[int, int]:
        """
        Last changes of content and of status, in nanoseconds, from before it was hashed.
        """
    @property
    def commit(self) -> str | None:
        """
        Commit of the repository, None for a local directory.
        """
    @property
    def directory(self) -> str:
        """
        Where the files are.
        """
    @property
    def metadata_json(self) -> str:
        """
        metadata.json in canonical form.
        """
    @property
    def needs_sealed(self) -> bool:
        """
        Others may write to the files: load a sealed copy.
        """
    @property
    def package_id(self) -> str:
        """
        `id` of the metadata: the name of the Python module.
        """
    @property
    def paths(self) -> list[str]:
        """
        Files relative to the directory.
        """
    @property
    def python_name(self) -> str:
        """
        Name of the kernel with '-' replaced by '_'.
        """
    @property
    def repo_id(self) -> str | None:
        """
        Repository of the hub, None for a local directory.
        """
    @property
    def variant(self) -> str:
        """
        Name of the variant directory.
        """
    @property
    def variant_digest(self) -> str:
        """
        Digest of the whole variant, 'sha256:<hex>'.
        """

class LoadOptions:
    """
    How to resolve and load; one object per call.
    """
    def __init__(self) -> None: ...
    def set_config(self, config: Config) -> None:
        """
        Settings instead of those of the environment.
        """
    def set_metadata_check(self, check: collections.abc.Callable[[str], None]) -> None:
        """
        Called with metadata.json before any other file is fetched; raises to refuse.
        """
    def set_system(self, system: SystemInfo) -> None:
        """
        Facts to resolve for instead of the probed ones.
        """
    def trust_all(self) -> None:
        """
        trust_remote_code for every repository.
        """
    def trust_repos(self, repos: collections.abc.Sequence[str]) -> None:
        """
        trust_remote_code for these repository ids.
        """
    @property
    def backend(self) -> str | None:
        """
        cpu, the detected backend, or None.
        """
    @backend.setter
    def backend(self, arg0: str | None) -> None: ...
    @property
    def check_arch(self) -> bool:
        """
        Compare the devices of this machine with the archs of the package.
        """
    @check_arch.setter
    def check_arch(self, arg0: bool) -> None: ...
    @property
    def local_files_only(self) -> bool:
        """
        Use the cache only.
        """
    @local_files_only.setter
    def local_files_only(self, arg0: bool) -> None: ...

def audit_load(
    package: VerifiedPackage,
    load_mode: str,
    milliseconds: typing.SupportsFloat,
    options: LoadOptions,
) -> None:
    """
    Appends the audit line of a package that Python executed.
    """

def canonical_metadata(content: bytes, origin: str) -> str:
    """
    Strict parse of the bytes of a metadata.json; the same facts in canonical form.
    """

def get_kernel_variants(
    repo_id: str,
    version: typing.SupportsInt | None,
    revision: str | None,
    options: LoadOptions,
) -> list[VariantDecision]:
    """
    Decisions for all variants, best first.
    """

def get_verified_local_package(path: str, options: LoadOptions) -> VerifiedPackage:
    """
    Verifies a kernel in a local directory.
    """

def get_verified_package(
    repo_id: str,
    version: typing.SupportsInt | None,
    revision: str | None,
    options: LoadOptions,
) -> VerifiedPackage:
    """
    Resolves, fetches and verifies a kernel of the hub.
    """

def has_kernel(
    repo_id: str,
    version: typing.SupportsInt | None,
    revision: str | None,
    options: LoadOptions,
) -> bool:
    """
    Whether a build fits; fetches metadata only.
    """

def install_kernel(
    repo_id: str,
    version: typing.SupportsInt | None,
    revision: str | None,
    options: LoadOptions,
) -> str:
    """
    Fetches and verifies a kernel; the variant directory.
    """

def system() -> SystemInfo:
    """
    A copy of the facts of this process and machine.
    """

__version__: str = "0.1.0"
