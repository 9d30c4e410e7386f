# SPDX-License-Identifier: Apache-2.0
"""Who computes an op on a GPU: ours, torch's ways, what the family knows of other projects."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from device_build import PACKAGES
from families.family import Buffers, Call, Candidate, Family, Problem
from families.floors import GPU_LARGE
from protocol.rows import AUTOTUNED, COMPILED, COMPOSED, FUSED, OURS, OURS_C

# Below a package's build: the C calls' builds for CUDA.
C_LIBRARIES = "tvm-ffi*-cu*/*.so"
# Of torch.compile.
MODES = {COMPILED: "default", AUTOTUNED: "max-autotune-no-cudagraphs"}


def candidates(
    family: Family,
    problem: Problem,
    module: ModuleType,
    baseline: Path | None,
    compiling: Sequence[str],
) -> list[Candidate]:
    """Every candidate for the problem, ours first, those that are absent included; `compiling` are
    the ways to compile a formula that are tried.
    """
    return [
        Candidate(OURS, lambda buffers: family.ours(problem, module, buffers)),
        _c_call(family, problem),
        _of_torch(COMPOSED, family.composed(problem)),
        _of_torch(FUSED, family.fused(problem)),
        *(_compiled(name, family, problem, compiling) for name in MODES),
        *family.others(problem, baseline),
    ]


def _c_call(family: Family, problem: Problem) -> Candidate:
    try:
        library = _library(family.package)
        function = getattr(library, family.c_op(problem.op))
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        return Candidate(OURS_C, None, str(error).splitlines()[0])
    return Candidate(
        OURS_C, lambda buffers: partial(function, *family.c_arguments(problem, library, buffers))
    )


@functools.cache
def _library(package: str) -> Any:
    libraries = sorted((PACKAGES / package / "build").glob(C_LIBRARIES))
    if not libraries:
        raise OSError("no tvm-ffi variant is built")
    return importlib.import_module("tvm_ffi").load_module(str(libraries[-1]))


def _of_torch(name: str, bind: Callable[[Buffers], Call] | None) -> Candidate:
    return Candidate(name, bind, "" if bind else "torch has no such op")


def _compiled(name: str, family: Family, problem: Problem, compiling: Sequence[str]) -> Candidate:
    formula = family.formula(problem)
    is_headline = problem.op in family.headline
    layout, launch = problem.setting.get("layout", "aligned"), problem.setting.get("launch")
    if name not in compiling:
        reason = "not asked for"
    elif problem.dtype != torch.bfloat16 or layout != "aligned":
        reason = "compiling takes seconds: only for aligned bfloat16 rows"
    elif problem.bytes < GPU_LARGE and not (is_headline and launch == "graph"):
        reason = "compiling takes seconds: only for large rows, and the headline ops' small ones"
    elif name == AUTOTUNED and not is_headline:
        reason = "tuning takes longest: only for the headline ops"
    elif formula is None:
        reason = "there is no formula to compile"
    elif importlib.util.find_spec("triton") is None:
        reason = "triton is not installed"
    else:
        compiled = _compile(formula, MODES[name])
        return Candidate(name, lambda buffers: partial(compiled, *buffers.inputs, *buffers.shared))
    return Candidate(name, None, reason)


@functools.cache
def _compile(formula: Callable[..., object], mode: str) -> Callable[..., object]:
    # Each shape is compiled by itself; beyond its limit torch would run the formula eagerly.
    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.accumulated_recompile_limit = 10000
    compiled: Callable[..., object] = torch.compile(formula, mode=mode, dynamic=False)
    return compiled
