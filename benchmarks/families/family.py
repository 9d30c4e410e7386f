# SPDX-License-Identifier: Apache-2.0
"""What a driver must know of a family of ops to measure it, on any device.

A family is one file beside this one and one line in `__init__.py`. It says which problems are
measured, makes their tensors, knows the exact result, torch's ways to compute it, and the floors.
"""

from __future__ import annotations

import functools
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from protocol.gate import Floor
from protocol.rows import Row

Call = Callable[[], object]
Tensors = tuple[torch.Tensor, ...]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# How many rows of a CPU problem are compared with the exact result.
SAMPLED_ROWS = 64


@dataclass(frozen=True)
class Problem:
    """One op on tensors of one size.

    `shape` is what tells two problems of an op apart, as a rule the output's. `bytes` is the least
    traffic, `flops` the arithmetic where that is the limit. `setting` holds what else matters: on a
    GPU "launch" (stream, graph, host, or flushed: the L2 cache before each call) and "layout"
    (aligned or misaligned).
    """

    op: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    bytes: int
    flops: int = 0
    setting: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def dtype_name(self) -> str:
        """As it stands in a row."""
        return str(self.dtype).removeprefix("torch.")

    def row(self, candidate: str, **setting: str | int) -> Row:
        """A row without times."""
        known = {**self.setting, **setting}
        return Row(
            self.op,
            self.dtype_name,
            self.shape,
            candidate,
            known,
            bytes=self.bytes,
            flops=self.flops,
        )


@dataclass(frozen=True)
class Buffers:
    """The tensors of a problem: `inputs` and `outputs` have the rows of the problem in their first
    dimension, `shared` (weights, tables) belong to all rows.

    Outputs are poisoned with NaN, so that what is not written is seen.
    """

    inputs: Tensors
    outputs: Tensors
    shared: Tensors = ()

    def clone(self) -> Buffers:
        """The same values elsewhere in memory, but for the tensors that all rows share."""
        copy = lambda tensors: tuple(one.clone() for one in tensors)  # noqa: E731
        return Buffers(copy(self.inputs), copy(self.outputs), self.shared)

    @property
    def nbytes(self) -> int:
        """Of inputs and outputs."""
        return sum(one.nbytes for one in self.inputs + self.outputs)

    def every(self, step: int) -> Buffers:
        """Views of every `step`-th row."""
        pick = lambda tensors: tuple(one[::step] for one in tensors)  # noqa: E731
        return Buffers(pick(self.inputs), pick(self.outputs), self.shared)


@dataclass(frozen=True)
class Candidate:
    """A way to compute an op. `bind` makes the call that is timed; its result, where that is a
    tensor or a tuple of them, is the op's, else the outputs of the buffers are.

    Where `bind` is None the candidate is absent, and `reason` says why.
    """

    name: str
    bind: Callable[[Buffers], Call] | None
    reason: str = ""


@dataclass(frozen=True)
class Scope:
    """How much of a CPU run is measured: `best` is true for the best instruction set on all threads
    only, where ours is timed against everything. `references` is true for the best instruction set,
    whatever the threads: torch's ways do not depend on ours and are timed once.
    """

    quick: bool
    best: bool
    references: bool = True


def overload(module: ModuleType, op: str) -> Callable[..., object]:
    """The op of a package as what torch's are compared by, an overload: a call through the name of
    an op looks for one first.
    """
    default: Callable[..., object] = getattr(module.ops, op).default
    return default


class Family(ABC):
    """A family of ops that are measured alike."""

    name: str  # what --op calls all of it, beside the package
    package: str  # folder below kernels-community
    ops: tuple[str, ...]
    headline: tuple[str, ...]  # measured with --quick too, and compiled on the CPU
    compute_bound: tuple[str, ...] = ()  # ops whose speed must grow with the threads
    read_bound: tuple[str, ...] = ()  # ops that write next to nothing: timed beside a reduction
    rowwise = True  # rows do not depend on each other: a sample of them can be checked

    def is_memory_bound(self, op: str) -> bool:
        """Whether moving the tensors of a large problem is what takes the time."""
        return op not in self.compute_bound and op not in self.read_bound

    @property
    def names(self) -> set[str]:
        """What --op may call the whole family."""
        return {self.name, self.package, self.package.replace("-", "_")}

    @abstractmethod
    def cpu_problems(self, op: str, scope: Scope) -> Iterator[Problem]:
        """What a CPU run measures of `op`."""

    @abstractmethod
    def gpu_problems(self, op: str, is_quick: bool) -> Iterator[Problem]:
        """What a GPU run measures of `op`."""

    @abstractmethod
    def buffers(self, problem: Problem, device: str) -> Buffers:
        """Fresh random inputs N(0, 1), and outputs whose pages are there."""

    @abstractmethod
    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        """The results in fp64. `buffers` may hold a sample of the rows."""

    @abstractmethod
    def bound(self, problem: Problem) -> float:
        """Largest relative error in the 2-norm with which a candidate of ours may be timed."""

    @abstractmethod
    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        """What our op takes."""

    def c_op(self, op: str) -> str:
        """What the C call of `op` is called."""
        return op

    def c_arguments(self, problem: Problem, library: Any, buffers: Buffers) -> tuple[object, ...]:
        """What the C call in a built library takes; it writes the outputs of `buffers`."""
        return self.arguments(problem, buffers)

    def ours(self, problem: Problem, module: ModuleType, buffers: Buffers) -> Call:
        """Our Python function, bound."""
        return partial(getattr(module, problem.op), *self.arguments(problem, buffers))

    def formula(self, problem: Problem) -> Callable[..., torch.Tensor | Tensors] | None:
        """What a model without kernels runs: a function of the inputs and then the shared tensors.
        None where it has no such form. The same op gives the same function, for torch.compile.
        """
        return None

    def composed(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        """The formula in eager mode; None where there is no formula."""
        formula = self.formula(problem)
        if formula is None:
            return None
        return lambda buffers: partial(formula, *buffers.inputs, *buffers.shared)

    def fused(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        """torch's own op of one pass, with `out=` where it has that; None where there is none."""
        return None

    def others(self, problem: Problem, baseline: Path | None) -> list[Candidate]:
        """Other projects' CUDA kernels and our own `baseline` of benchmarks/gpu, a library that
        may not have compiled; absent ones included.
        """
        return []

    def checked_as(self, problem: Problem) -> Problem:
        """The problem whose result is compared: a small one has too few values for a mean error."""
        if problem.shape[0] == 1:
            return replace(problem, shape=(SAMPLED_ROWS, *problem.shape[1:]))
        return problem

    def cpu_floors(self, candidates: Mapping[str, Row], cores: int) -> list[Floor]:
        """The floors of one problem on the CPU; `candidates` has a measured row of ours."""
        return []

    def gpu_floors(
        self,
        candidates: Mapping[str, Row],
        ceilings: Mapping[str, float],
        aligned: Row | None,
    ) -> list[Floor]:
        """The floors of one problem on a GPU; `aligned` is our row of the same aligned problem."""
        return []


def normal(count: int, dtype: torch.dtype, device: str) -> torch.Tensor:
    """`count` values N(0, 1): a block of 2^22 of them, drawn once, from somewhere in it on and
    again from its start. No kernel can notice; drawing all would take longer than measuring.
    """
    block = _normal_block(dtype, device)
    values = torch.empty(count, dtype=dtype, device=device)
    start, at = int(torch.randint(len(block), ())), 0
    while at < count:
        piece = block[start : start + count - at]
        values[at : at + len(piece)] = piece
        start, at = 0, at + len(piece)
    return values


@functools.cache
def _normal_block(dtype: torch.dtype, device: str) -> torch.Tensor:
    seeded = torch.Generator(device).manual_seed(12)
    return torch.randn(1 << 22, generator=seeded, device=device).to(dtype)


def results(returned: object, buffers: Buffers) -> Tensors:
    """The results of a call: what it returned, or else what it wrote."""
    if isinstance(returned, torch.Tensor):
        return (returned,)
    if isinstance(returned, (tuple, list)) and all(isinstance(x, torch.Tensor) for x in returned):
        return tuple(returned)
    return buffers.outputs


def installed(
    name: str, attribute: str, bind: Callable[[Callable[..., object]], Callable[[Buffers], Call]]
) -> Candidate:
    """The candidate that calls `attribute` ("module:function") of another project, or why not."""
    module, _, path = attribute.partition(":")
    try:
        function = attrgetter(path)(importlib.import_module(module))
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        return Candidate(name, None, str(error).splitlines()[0])
    return Candidate(name, bind(function))
