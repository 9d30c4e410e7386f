# SPDX-License-Identifier: Apache-2.0
"""Who computes an activation on a GPU: ours, torch's ways, a scalar kernel, what is installed."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from device_build import PACKAGES, compile_shared, toolchain
from protocol import activation_ops

# f(out, x) writes out, or returns its result: either is the op's value.
Run = Callable[[torch.Tensor, torch.Tensor], object]

AUTOTUNED = "compile, max-autotune"
SCALAR_OPS = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "gelu_quick": 3, "gelu_fast": 2, "gelu_new": 2}
SCALAR_DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


@dataclass(frozen=True)
class Candidate:
    """A way to compute an op; `run` is None where it is absent, and `reason` says why."""

    name: str
    run: Run | None
    reason: str = ""


def load_baseline(build_folder: Path) -> ctypes.CDLL:
    """The scalar kernel and the empty one, compiled here."""
    source = Path(__file__).with_name("scalar_baseline.cu")
    path = compile_shared(source, build_folder / "scalar_baseline.so", toolchain())
    library = ctypes.CDLL(str(path))
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.scalar_activation.argtypes = [
        *[ctypes.c_int] * 3,
        pointer,
        pointer,
        size,
        size,
        pointer,
    ]
    library.empty_launch.argtypes = [pointer]
    return library


def candidates(
    op: str, package: ModuleType, baseline: ctypes.CDLL, is_quick: bool
) -> list[Candidate]:
    """Every candidate for `op`, those that are absent included."""
    extra = (activation_ops.THRESHOLD,) if op == "fatrelu_and_mul" else ()
    # Each shape is compiled by itself; beyond its limit torch would run the formula eagerly.
    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.accumulated_recompile_limit = 10000
    ours = getattr(package, op)
    formula = activation_ops.composed(op)
    found = [
        Candidate("ours", lambda out, x: ours(out, x, *extra)),
        _c_call(op, extra),
        Candidate("composed", lambda _, x: formula(x)),
    ]
    fused = activation_ops.fused(op)
    if fused is not None:
        found.append(Candidate("fused", lambda out, x: fused(x, out)))
    found.append(_compiled(formula, "default"))
    if not is_quick:
        found.append(_compiled(formula, "max-autotune-no-cudagraphs"))
    found.append(_scalar(op, baseline))
    if op in activation_ops.GATED:
        found += [_flashinfer(op), _imported("liger_kernel", op), _imported("quack", op)]
    return found


def _c_call(op: str, extra: tuple[float, ...]) -> Candidate:
    name = "ours, C call"
    libraries = sorted((PACKAGES / "activation" / "build").glob("tvm-ffi*-cu*/*.so"))
    if not libraries:
        return Candidate(name, None, "no tvm-ffi variant is built")
    try:
        function = getattr(importlib.import_module("tvm_ffi").load_module(str(libraries[-1])), op)
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        return Candidate(name, None, str(error).splitlines()[0])
    return Candidate(name, lambda out, x: function(out, x, *extra))


def _compiled(formula: Callable[[torch.Tensor], torch.Tensor], mode: str) -> Candidate:
    name = "compile" if mode == "default" else AUTOTUNED
    if importlib.util.find_spec("triton") is None:
        return Candidate(name, None, "triton is not installed")
    compiled = torch.compile(formula, mode=mode, dynamic=False)
    return Candidate(name, lambda _, x: compiled(x))


def _scalar(op: str, baseline: ctypes.CDLL) -> Candidate:
    is_gated = op in activation_ops.GATED
    act = op.removesuffix("_and_mul")
    if act not in SCALAR_OPS:
        return Candidate("scalar kernel", None, "it has no such op")
    code = SCALAR_OPS[act]

    def run(out: torch.Tensor, x: torch.Tensor) -> None:
        stream = torch.cuda.current_stream().cuda_stream
        rows, cols = out.shape
        dtype = SCALAR_DTYPES[x.dtype]
        status = baseline.scalar_activation(
            code, is_gated, dtype, out.data_ptr(), x.data_ptr(), rows, cols, stream
        )
        if status != 0:
            raise RuntimeError(f"scalar kernel: CUDA error {status}")

    return Candidate("scalar kernel", run)


def _flashinfer(op: str) -> Candidate:
    names = {"silu_and_mul", "gelu_and_mul", "gelu_tanh_and_mul"}
    if op not in names:
        return Candidate("flashinfer", None, "it has no such op")
    try:
        function = getattr(importlib.import_module("flashinfer.activation"), op)
    except (ImportError, AttributeError, RuntimeError) as error:
        return Candidate("flashinfer", None, str(error))
    return Candidate("flashinfer", lambda out, x: function(x, out))


def _imported(package: str, op: str) -> Candidate:
    if op != "silu_and_mul":
        return Candidate(package, None, "it has no such op")
    try:
        if package == "liger_kernel":
            module = importlib.import_module("liger_kernel.ops.swiglu")
            swiglu = module.LigerSiLUMulFunction.apply
            return Candidate(package, lambda _, x: swiglu(*x.chunk(2, -1)))
        swiglu = importlib.import_module("quack.activation").swiglu
        return Candidate(package, lambda _, x: swiglu(*x.chunk(2, -1)))
    except (ImportError, AttributeError, RuntimeError) as error:
        return Candidate(package, None, str(error))
