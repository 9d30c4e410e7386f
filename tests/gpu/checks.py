# SPDX-License-Identifier: Apache-2.0
"""What the checks of tests/gpu/run have in common. A check raises AssertionError where a kernel is
wrong, and Absent where this machine or these packages lack what it needs.

A family of ops is one file <family>_checks.py and one line in registry.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import precision
import torch
from own_process import Absent as Absent
from precision import BF16, FP16, FP32

DTYPES = (FP32, FP16, BF16)
HALVES = (FP16, BF16)


@dataclass(frozen=True)
class Context:
    """What a check works with: the packages, the ops of its family that were asked for, where to
    put tensors.
    """

    packages: Mapping[str, ModuleType]
    ops: tuple[str, ...]
    is_quick: bool
    device: str = "cuda"

    def package(self, name: str) -> ModuleType:
        """A package, or Absent; an error where it does not compile or load."""
        if name not in self.packages:
            raise Absent(f"package {name} was not asked for or is not there")
        return self.packages[name]


# What compute-sanitizer finds in kernels without shared memory, whose threads wait for no other.
WITHOUT_SHARED_MEMORY = ("memcheck", "initcheck")
SANITIZER_TOOLS = (*WITHOUT_SHARED_MEMORY, "racecheck", "synccheck")

# Its name is what --check takes, the first line of its docstring what --list says.
Check = Callable[[Context], None]


@dataclass(frozen=True)
class Family:
    """The checks of some ops.

    `on_any_device` are those that hold for any device with kernels, so that they can be tried on
    the CPU builds. `sanitizer_tools` of compute-sanitizer, which are slow, run `sanitized` with
    --quick.
    """

    packages: tuple[str, ...]
    ops: tuple[str, ...]
    checks: tuple[Check, ...]
    on_any_device: tuple[Check, ...]
    sanitized: tuple[Check, ...]
    sanitizer_tools: tuple[str, ...] = SANITIZER_TOOLS

    @property
    def name(self) -> str:
        """What its packages are called."""
        return ", ".join(self.packages)


def needs_graphs(context: Context) -> None:
    """Absent where there is nothing to capture."""
    if context.device != "cuda":
        raise Absent("CUDA graphs need a GPU")


def assert_replays(
    step: Callable[[], tuple[torch.Tensor, ...]], inputs: tuple[torch.Tensor, ...], what: str
) -> None:
    """`step` is captured into a CUDA graph at once, so that whatever a first call asks of the
    device is asked there; its replays on new `inputs` give the bits of calls.
    """
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for _ in range(3):
        for one in inputs:
            one.normal_()
        graph.replay()
        for result, expected in zip(captured, step(), strict=True):
            assert same(result, expected), what


def same(result: torch.Tensor, expected: torch.Tensor) -> bool:
    """Bit equality; one NaN is as good as another."""
    return bool(precision.same_bits(result, expected).all())


def patterns(context: Context, dtype: torch.dtype) -> torch.Tensor:
    """Every value of a 16-bit dtype on the device."""
    return precision.all_patterns(dtype).to(context.device)


def has_op(ops: object, name: str) -> bool:
    """Whether a package has an op."""
    try:
        return callable(getattr(ops, name))
    except AttributeError:
        return False
