# SPDX-License-Identifier: Apache-2.0
"""Measure the CUDA kernels of the op packages: ceilings, correctness, then times.

Exit status: 0 fine, 1 wrong values, a missed floor (--gate) or a regression (--compare), 2 floors
that could not be judged (--gate), 77 no GPU.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import device_build
import families
import torch
from candidates import MODES
from families.family import Family, Problem
from families.floors import GPU_LARGE
from floors import floors, unjudged
from own_process import FAIL, NOT_RUN, OK, Budget, Outcome, Worker, attempt, write_whole
from problem_worker import Setup
from protocol import machine, report
from protocol.rows import COMPILED, FAILED, OURS, Result, Row
from scalar_baseline import compile_baseline

HERE = Path(__file__).parent
WORKER = (sys.executable, str(HERE / "problem_worker.py"))
NO_GPU = 77
METHOD = """\
Sets of buffers that exceed the L2 cache four times take turns, but for graphs' latency. "flushed"
calls find nothing in that cache. On the host the C call stands beside torch.neg, which generated
code binds, and the torch op beside torch.ops.aten.neg.out, which is dispatched by its schema as
every op of a loaded library is."""
# Seconds of a problem, many times what it takes: a kernel that waits for ever costs no more.
LIMIT_S, QUICK_LIMIT_S = 180.0, 60.0


def problems(names: list[str] | None, is_quick: bool) -> list[tuple[Family, Problem]]:
    """What a run measures, so ordered that what was measured says most wherever a run ends: what
    has floors first, headline ops before others and bfloat16 before other dtypes, and of each op
    one problem in turn.
    """
    found = [
        (family, problem)
        for family, op in families.selected(names, is_quick)
        for problem in family.gpu_problems(op, is_quick)
    ]

    def same(one: Problem) -> tuple[object, ...]:
        return one.op, one.dtype, one.shape, one.setting["launch"]

    # Some floors stand beside another problem of the same shape.
    with_floors = {same(one) for _, one in found if unjudged(one.row(OURS))}
    turns: Counter[tuple[object, ...]] = Counter()

    def rank(pair: tuple[Family, Problem]) -> tuple[bool, bool, bool, int]:
        family, one = pair
        kind = (
            same(one) not in with_floors,
            one.op not in family.headline,
            one.dtype != torch.bfloat16,
        )
        turns[one.op, kind] += 1
        return *kind, turns[one.op, kind]

    return sorted(found, key=rank)


def device() -> dict[str, Any]:
    """The GPU in words, beside the host."""
    properties = torch.cuda.get_device_properties(0)
    query = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,ecc.mode.current"
    facts = machine.first_line("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")
    return {
        "gpu": f"{properties.name}, {properties.multi_processor_count} multiprocessors",
        "gpu memory": f"{properties.total_memory >> 30} GiB",
        "gpu cache": f"{properties.L2_cache_size >> 20} MiB of L2",
        query: facts,
        "cuda": str(torch.version.cuda),
        **machine.host(),
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags of benchmarks/gpu/run."""
    parser = report.flags("Measure the CUDA kernels of the op packages on this GPU.")
    parser.add_argument("--list", action="store_true", help="name the problems and stop")
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="stop after so long, building included; the floors of what was not run fail --gate",
    )
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--build-dir", type=Path, default=device_build.FOLDER, metavar="DIR")
    options = parser.parse_args(arguments)
    options.output = options.output or options.build_dir / "results"
    return options


def run(
    options: argparse.Namespace, wanted: list[tuple[Family, Problem]], worker: Worker
) -> Result:
    """All rows, printed as they come; after each problem the results file has what is known."""
    found = Result(device(), {}, [])
    limit = QUICK_LIMIT_S if options.quick else LIMIT_S
    first = worker.run(None, limit)
    if first.status == OK:
        found.ceilings = first.value
    else:
        found.rows.append(_unmeasured(Row("ceilings", "", (), OURS), first))
    print("\n".join(f"{name}: {value:.4g}" for name, value in found.ceilings.items()), flush=True)
    for _, problem in wanted:
        outcome = worker.run(problem, limit, problem.op)
        own = _unmeasured(problem.row(OURS), outcome)
        rows = outcome.value if outcome.status == OK else [own]
        found.rows += rows
        timed = [f"{row.candidate} {row.us_median:.2f}" for row in rows if row.us_median]
        wrong = [f"{row.candidate} {FAIL}: {row.reason}" for row in rows if row.status == FAILED]
        missing = [f"{row.status}: {row.reason}" for row in rows if row.status == NOT_RUN]
        print(f"{_words(problem)}: {', '.join(timed + wrong + missing)}", flush=True)
        if outcome.status != NOT_RUN:
            write_whole(options.output / "results.json", found.as_text())
    return found


def _unmeasured(row: Row, outcome: Outcome) -> Row:
    """Our row where the whole problem failed or was not run."""
    status = NOT_RUN if outcome.status == NOT_RUN else FAILED
    return replace(row, status=status, reason=(outcome.text.splitlines() or [""])[0][:200])


def _words(problem: Problem) -> str:
    setting = " ".join(str(value) for value in problem.setting.values())
    return f"{problem.op} {problem.dtype_name} {problem.shape} {setting}"


def main(arguments: list[str]) -> int:
    """Build what is missing, measure, report."""
    options = parse(arguments)
    wanted = problems(options.op, options.quick)
    if not wanted:
        print(f"benchmarks/gpu/run: {families.nothing_selected(options.op)}", file=sys.stderr)
        return 2
    if options.list:
        for _, problem in wanted:
            size = "large" if problem.bytes >= GPU_LARGE else f"{problem.bytes >> 10} KiB"
            print(_words(problem), size)
        return 0
    if not torch.cuda.is_available():
        print(
            "benchmarks/gpu/run: no GPU that torch can use; nothing was measured", file=sys.stderr
        )
        return NO_GPU
    options.output.mkdir(parents=True, exist_ok=True)
    budget = Budget(options.budget)
    budget.heed_signals()
    packages = list(dict.fromkeys(family.package for family, _ in wanted))
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(attempt, partial(compile_baseline, options.build_dir, budget))
        built = device_build.build(packages, options.build_dir, budget)
    compiling = () if options.no_compile else tuple(MODES) if not options.quick else (COMPILED,)
    setup = Setup(built, beside.result().value, compiling, options.quick)
    worker = Worker(WORKER, setup, budget)
    try:
        result = run(options, wanted, worker)
    finally:
        worker.close()
    return report.finish(options, result, floors(result), METHOD, write_whole)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
