# SPDX-License-Identifier: Apache-2.0
"""The CPU packages against torch, for every instruction set and number of threads.

Started by `run`. Each pair of instruction set and thread count has a process of its own, with its
threads pinned: KERNELHUB_CPU_ISA is read once, and so is the pinning.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from protocol import machine, report
from protocol.gate import Floor
from protocol.rows import Result, Row, row_from_json

HERE = Path(__file__).parent
# What each level of primitives/cpu_dispatch.h needs first of all.
LEVELS = {"avx512": "avx512bw", "avx2": "avx2", "scalar": ""}
SMALL_BYTES = 4 * 1024
LARGE_BYTES = 64 * 1024 * 1024
FUSED, COMPOSED, NEG = "torch fused", "torch composed", "torch.neg"


def levels() -> list[str]:
    """The instruction sets of this CPU, best first."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return [name for name, flag in LEVELS.items() if not flag or flag in flags]


def measure(isa: str, threads: int, cores: list[int], options: list[str]) -> dict[str, Any]:
    """What worker.py prints for one instruction set and thread count."""
    environment = os.environ | {
        "KERNELHUB_CPU_ISA": isa,
        "OMP_NUM_THREADS": str(threads),
        "OMP_PROC_BIND": "true",
        "OMP_PLACES": ",".join(f"{{{core}}}" for core in cores[:threads]),
    }
    command = [sys.executable, str(HERE / "worker.py"), isa, str(threads), *options]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def floors(result: Result, cores: int) -> list[Floor]:
    """The floors of element-wise ops: bandwidth on all cores, torch, composed formulas,
    small calls.

    The scalar build is there for processors without AVX2; no floor asks for its speed.
    """
    found = []
    for candidates in result.group().values():
        ours = candidates.get("ours")
        if ours is None or ours.us_median is None or ours.setting["isa"] == "scalar":
            continue
        if ours.op == "layer_norm":
            continue
        where = ours.setting
        name = f"{ours.op} {ours.dtype} {'x'.join(map(str, ours.shape))}"
        name += f" {where['isa']} {where['threads']} threads"
        for candidate in ("ours", "ours, C ABI") if ours.bytes <= SMALL_BYTES else ():
            small = ratio(candidates, candidate, NEG)
            if small is not None:
                what = f"{name}: {candidate} over torch.neg"
                found.append(Floor(what, small, 1.5, at_most=True))
        if ours.bytes < LARGE_BYTES:
            continue
        share = (ours.pct_copy or 0) / 100
        if where["threads"] == cores:
            bound = 0.7 if ours.dtype == "float32" else 0.5
            found.append(Floor(f"{name}: share of copy", share, bound))
        fused = ratio(candidates, FUSED, "ours")
        if fused is not None and share < 0.9 and ours.op not in ("gelu_fast", "gelu_new"):
            found.append(Floor(f"{name}: torch fused over ours", fused, 1.2))
        composed = ratio(candidates, COMPOSED, "ours")
        if composed is not None and ours.op == "gelu_fast":
            found.append(Floor(f"{name}: composed over ours", composed, 5.0))
    return found


def ratio(candidates: dict[str, Row], first: str, second: str) -> float | None:
    """Time of one candidate over another's; None where either was not timed."""
    times = [candidates[name].us_median if name in candidates else None for name in (first, second)]
    return times[0] / times[1] if times[0] and times[1] else None


def main() -> int:
    """Measure, write, judge."""
    parser = report.flags("The CPU packages against torch.")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1, 2, 4, ... all cores")
    parser.add_argument("--isa", nargs="+", choices=levels(), help="default: all of this CPU")
    arguments = parser.parse_args()
    arguments.output = arguments.output or machine.ROOT / "build" / "benchmark-cpu"
    cores = sorted(os.sched_getaffinity(0))
    threads = arguments.threads or [
        *(1 << i for i in range(len(cores).bit_length()) if 1 << i < len(cores)),
        len(cores),
    ]
    if max(threads) > len(cores):
        parser.error(f"--threads: expected at most {len(cores)} cores, got {max(threads)}")
    isas = arguments.isa or (levels()[:1] if arguments.quick else levels())
    options = ["--quick"] * arguments.quick
    for op in arguments.op or ():
        options += ["--op", op]
    result = Result(machine.host() | {"isa": isas, "threads": threads}, {}, [])
    print("\n".join(f"{name}: {value}" for name, value in result.machine.items()))
    for isa in isas:
        for count in threads:
            print(f"measuring {isa}, {count} threads", flush=True)
            best = ["--best"] * (isa == levels()[0])
            part = measure(isa, count, cores, options + best)
            for name, value in part["ceilings"].items():
                key = f"{name} GB/s, {count} threads"
                result.ceilings[key] = max(value, result.ceilings.get(key, 0.0))
            result.rows += [row_from_json(row) for row in part["rows"]]
    result.machine["load_average_after"] = os.getloadavg()[0]
    return report.finish(arguments, result, floors(result, len(cores)))


if __name__ == "__main__":
    sys.exit(main())
