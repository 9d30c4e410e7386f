# SPDX-License-Identifier: Apache-2.0
"""The workers of tests/gpu and benchmarks/gpu on CPU builds: gpu_worker_on_cpu.py NAME ADDRESS."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "gpu"), str(ROOT / "tests/gpu")]

import candidates  # noqa: E402
import check_worker  # noqa: E402
import problem_worker  # noqa: E402
from checks import Context  # noqa: E402
from families.family import Call  # noqa: E402
from own_process import serve  # noqa: E402


def turn(calls: Sequence[Call]) -> Callable[[], list[float]]:
    """A turn that takes a microsecond a call."""
    return lambda: [1.0 for call in calls if call() is not calls]


if __name__ == "__main__":
    torch.cuda.synchronize = lambda *_: None
    check_worker.Context = partial(Context, device="cpu")  # type: ignore[misc,assignment]
    problem_worker.DEVICE = "cpu"
    candidates.C_LIBRARIES = "tvm-ffi*-cpu-*/*.so"
    problem_worker.host_turn = lambda call: turn([call])
    making = {"check": check_worker.checking, "problem": problem_worker.measuring}
    serve(sys.argv[2], making[sys.argv[1]])
