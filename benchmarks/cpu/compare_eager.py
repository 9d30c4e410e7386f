# SPDX-License-Identifier: Apache-2.0
"""gelu_fast, gelu and layer_norm on CPU against torch eager, interleaved in one process.

compare_eager.py [--threads N ...] [--output FILE.json]

Packages are taken from kernels-community/*/build. Outputs are allocated and touched before timing
and eager gets them too (`out=`) where it can; every row is checked against fp64 first. A row's
time is the median of the rounds' medians; its spread is (max - min) / median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.nn import functional

import kernelhub

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 9
ROUND_SECONDS = 0.06
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
EPSILON = 1e-12
Row = dict[str, Any]
Calls = dict[str, dict[str, Callable[[], object]]]


def composed_gelu_fast(x: torch.Tensor) -> torch.Tensor:
    """The formula that transformers runs."""
    return 0.5 * x * (1.0 + torch.tanh(x * 0.79788456 * (1.0 + 0.044715 * x * x)))


def time_once(call: Callable[[], object]) -> float:
    """Median seconds of one call over about ROUND_SECONDS."""
    times: list[float] = []
    end = time.perf_counter() + ROUND_SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def compare(candidates: dict[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    """Median and spread per candidate; the candidates take turns in every round."""
    rounds: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        time_once(call)
    for _ in range(ROUNDS):
        for name, call in candidates.items():
            rounds[name].append(time_once(call))
    return {
        name: {
            "us_median": statistics.median(times) * 1e6,
            "spread": (max(times) - min(times)) / statistics.median(times),
        }
        for name, times in rounds.items()
    }


def require_close(name: str, out: torch.Tensor, reference: torch.Tensor) -> None:
    """Correctness before timing."""
    error = ((out.double() - reference).abs() / reference.abs().clamp(min=1)).max().item()
    if not error <= TOLERANCE[out.dtype]:
        raise SystemExit(f"{name} {out.dtype}: wrong by {error:.2e}, nothing was timed")


def activation_calls(kernel: ModuleType, x: torch.Tensor) -> Calls:
    """Candidates of gelu_fast and gelu for one input, checked."""
    out, other = torch.empty_like(x), torch.empty_like(x)
    require_close("gelu_fast", kernel.gelu_fast(out, x), composed_gelu_fast(x.double()))
    require_close("gelu", kernel.gelu(out, x), functional.gelu(x.double()))
    eager = torch._C._nn.gelu
    return {
        "gelu_fast": {
            "ours": lambda: kernel.gelu_fast(out, x),
            "eager composed": lambda: composed_gelu_fast(x),
            "eager F.gelu(tanh)": lambda: eager(x, approximate="tanh", out=other),
        },
        "gelu": {
            "ours": lambda: kernel.gelu(out, x),
            "eager F.gelu": lambda: eager(x, out=other),
        },
    }


def layer_norm_calls(kernel: ModuleType, x: torch.Tensor) -> Calls:
    """Candidates of layer_norm for one input, checked."""
    hidden = x.shape[-1]
    weight, bias = torch.randn(hidden, dtype=x.dtype), torch.randn(hidden, dtype=x.dtype)
    out = torch.empty_like(x)
    reference = functional.layer_norm(
        x.double(), (hidden,), weight.double(), bias.double(), EPSILON
    )
    require_close("layer_norm", kernel.layer_norm(out, x, weight, bias, EPSILON), reference)
    return {
        "layer_norm": {
            "ours": lambda: kernel.layer_norm(out, x, weight, bias, EPSILON),
            "eager F.layer_norm": lambda: functional.layer_norm(
                x, (hidden,), weight, bias, EPSILON
            ),
        }
    }


def rows_for(threads: int) -> list[Row]:
    """All comparisons at one number of threads."""
    torch.set_num_threads(threads)
    activation = kernelhub.get_local_kernel(ROOT / "kernels-community/activation", backend="cpu")
    norm = kernelhub.get_local_kernel(ROOT / "kernels-community/layer-norm", backend="cpu")
    rows: list[Row] = []
    for dtype in (torch.float32, torch.bfloat16):
        for tokens in (16, 1024, 16384):
            x = torch.randn(tokens, 1536, dtype=dtype)
            rows += finish(activation_calls(activation, x), dtype, (tokens, 1536), threads)
            y = torch.randn(tokens, 384, dtype=dtype)
            rows += finish(layer_norm_calls(norm, y), dtype, (tokens, 384), threads)
    return rows


def finish(
    calls: Calls,
    dtype: torch.dtype,
    shape: tuple[int, int],
    threads: int,
) -> list[Row]:
    """Measure each op's candidates; ratio = candidate / ours, so above 1 ours is faster."""
    rows: list[Row] = []
    with torch.inference_mode():
        for op, candidates in calls.items():
            measured = compare(candidates)
            ours = measured["ours"]["us_median"]
            for name, facts in measured.items():
                rows.append(
                    {
                        "op": op,
                        "dtype": str(dtype).removeprefix("torch."),
                        "shape": list(shape),
                        "threads": threads,
                        "candidate": name,
                        **facts,
                        "ratio_to_ours": facts["us_median"] / ours,
                    }
                )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = [row for threads in arguments.threads for row in rows_for(threads)]
    for row in rows:
        print(
            f"{row['op']:<11}{row['dtype']:<9}{row['shape']!s:<14}{row['threads']} thread(s)  "
            f"{row['candidate']:<20}{row['us_median']:>10.1f} us  x{row['ratio_to_ours']:.2f}  "
            f"spread {row['spread']:.0%}"
        )
    if arguments.output:
        arguments.output.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
