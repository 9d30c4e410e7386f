# SPDX-License-Identifier: Apache-2.0
"""Who computes an op on a GPU: ours, torch's ways, what the family knows of other projects."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from device_build import PACKAGES
from families.family import Buffers, Call, Candidate, Family, Problem
from families.floors import GPU_LARGE
from protocol.rows import AUTOTUNED, COMPILED, COMPOSED, FUSED, OURS, OURS_C


def candidates(
    family: Family, problem: Problem, module: ModuleType, build_dir: Path, is_quick: bool
) -> list[Candidate]:
    """Every candidate for the problem, those that are absent included."""
    formula = family.formula(problem)
    found = [
        Candidate(OURS, lambda buffers: family.ours(problem, module, buffers)),
        _c_call(family, problem),
        _of_torch(COMPOSED, family.composed(problem)),
        _of_torch(FUSED, family.fused(problem)),
        _compiled(COMPILED, formula, "default"),
    ]
    if not is_quick:
        if _is_worth_tuning(problem):
            found.append(_compiled(AUTOTUNED, formula, "max-autotune-no-cudagraphs"))
        else:
            reason = "timed on large bfloat16 rows only: tuning takes long"
            found.append(Candidate(AUTOTUNED, None, reason))
    return found + family.others(problem, build_dir)


def _is_worth_tuning(problem: Problem) -> bool:
    is_aligned = problem.setting.get("layout", "aligned") == "aligned"
    return problem.bytes >= GPU_LARGE and is_aligned and problem.dtype == torch.bfloat16


def _c_call(family: Family, problem: Problem) -> Candidate:
    try:
        function = getattr(_library(family.package), family.c_op(problem.op))
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        return Candidate(OURS_C, None, str(error).splitlines()[0])
    return Candidate(OURS_C, lambda buffers: partial(function, *family.arguments(problem, buffers)))


@functools.cache
def _library(package: str) -> Any:
    libraries = sorted((PACKAGES / package / "build").glob("tvm-ffi*-cu*/*.so"))
    if not libraries:
        raise OSError("no tvm-ffi variant is built")
    return importlib.import_module("tvm_ffi").load_module(str(libraries[-1]))


def _of_torch(name: str, bind: Callable[[Buffers], Call] | None) -> Candidate:
    return Candidate(name, bind, "" if bind else "torch has no such op")


def _compiled(name: str, formula: Callable[..., object] | None, mode: str) -> Candidate:
    if formula is None:
        return Candidate(name, None, "there is no formula to compile")
    if importlib.util.find_spec("triton") is None:
        return Candidate(name, None, "triton is not installed")
    compiled = _compile(formula, mode)
    return Candidate(name, lambda buffers: partial(compiled, *buffers.inputs, *buffers.shared))


@functools.cache
def _compile(formula: Callable[..., object], mode: str) -> Callable[..., object]:
    # Each shape is compiled by itself; beyond its limit torch would run the formula eagerly.
    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.accumulated_recompile_limit = 10000
    compiled: Callable[..., object] = torch.compile(formula, mode=mode, dynamic=False)
    return compiled
