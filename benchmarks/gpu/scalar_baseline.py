# SPDX-License-Identifier: Apache-2.0
"""The scalar kernel of the activations and an empty one, compiled on this machine."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from device_build import Compiler, compile_shared, toolchain
from own_process import Budget


@functools.cache
def load_baseline(build_dir: Path) -> ctypes.CDLL:
    """scalar_baseline.cu as a library."""
    source = Path(__file__).with_suffix(".cu")
    compiled = compile_shared(source, Compiler(build_dir, Budget()), toolchain())
    library = ctypes.CDLL(str(compiled))
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    arguments = [*[ctypes.c_int] * 3, pointer, pointer, size, size, pointer]
    library.scalar_activation.argtypes = arguments
    library.empty_launch.argtypes = [pointer]
    return library
