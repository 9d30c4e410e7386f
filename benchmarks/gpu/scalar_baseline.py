# SPDX-License-Identifier: Apache-2.0
"""The scalar kernel of the activations and an empty one: the driver compiles, workers load."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from device_build import BuildError, Compiler, compile_shared, toolchain
from own_process import Budget

SOURCE = Path(__file__).with_suffix(".cu")


def compile_baseline(build_dir: Path, budget: Budget) -> Path:
    """scalar_baseline.cu as a library below the folder."""
    return compile_shared(SOURCE, Compiler(build_dir, budget), toolchain())


@functools.cache
def load_baseline(baseline: Path | None) -> ctypes.CDLL:
    """What was compiled, which is None where that failed."""
    if baseline is None:
        raise BuildError(f"{SOURCE.name} was not compiled: the run's first lines say why")
    library = ctypes.CDLL(str(baseline))
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    arguments = [*[ctypes.c_int] * 3, pointer, pointer, size, size, pointer]
    library.scalar_activation.argtypes = arguments
    library.empty_launch.argtypes = [pointer]
    return library
