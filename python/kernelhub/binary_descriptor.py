# SPDX-License-Identifier: Apache-2.0
"""A verified binary as an open descriptor that the dynamic loader can be pointed at."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass

from kernelhub import _kernelhub

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@dataclass(frozen=True)
class BinaryDescriptor:
    """`descriptor` stays open for the life of this object and of the process."""

    descriptor: int
    owner: _kernelhub.VerifiedPackage

    @staticmethod
    def of(files: _kernelhub.VerifiedPackage, path: str) -> BinaryDescriptor:
        """The file itself, or a sealed copy when others may write to it (loader spec T6)."""
        if not files.needs_sealed:
            return BinaryDescriptor(files.descriptor(path), files)
        copy = os.memfd_create(os.path.basename(path), os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(copy, "wb", closefd=False) as file:
            file.write(files.read(path))
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _SEALS)
        return BinaryDescriptor(copy, files)

    def proc_path(self) -> str:
        """Name for dlopen; by process id, because a debugger opens it from outside (T1)."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"
