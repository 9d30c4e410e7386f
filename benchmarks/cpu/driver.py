# SPDX-License-Identifier: Apache-2.0
"""The CPU packages against torch, for every instruction set and number of threads.

Started by `run`. Each pair of instruction set and thread count has a process of its own, with its
threads pinned: KERNELHUB_CPU_ISA is read once, and so is the pinning.

Small calls are judged like with like: a C call against torch.neg(out=), which generated code binds,
and the Python function against torch.ops.aten.neg.out, which is dispatched by its schema as every
op of a loaded library is. The tables hold both yardsticks; on the machine of the committed results
the second costs twice the first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import families
from protocol import machine, report
from protocol.gate import Floor
from protocol.rows import OURS, Result, row_from_json

HERE = Path(__file__).parent
# What each level of primitives/cpu_dispatch.h needs first of all.
LEVELS = {"avx512": "avx512bw", "avx2": "avx2", "scalar": ""}


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
    """The floors of every family.

    The scalar build is there for processors without AVX2; no floor asks for its speed.
    """
    found = []
    for candidates in result.group().values():
        ours = candidates.get(OURS)
        if ours is not None and ours.us_median is not None and ours.setting["isa"] != "scalar":
            found += families.of(ours.op).cpu_floors(candidates, cores)
    return found


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
    list(families.selected(arguments.op, arguments.quick))  # refuses a name that is none
    result = Result(machine.host() | {"isa": isas, "threads": threads}, {}, [])
    print("\n".join(f"{name}: {value}" for name, value in result.machine.items()))
    for isa in isas:
        # No floor asks for the scalar build's speed: how it scales is of no interest.
        for count in threads if isa != "scalar" else threads[-1:]:
            print(f"measuring {isa}, {count} threads", flush=True)
            best = ["--best"] * (isa == levels()[0] and count == max(threads))
            part = measure(isa, count, cores, options + best)
            for name, value in part["ceilings"].items():
                key = f"{name} GB/s, {count} threads"
                result.ceilings[key] = max(value, result.ceilings.get(key, 0.0))
            result.rows += [row_from_json(row) for row in part["rows"]]
    result.machine["load_average_after"] = os.getloadavg()[0]
    return report.finish(arguments, result, floors(result, len(cores)))


if __name__ == "__main__":
    sys.exit(main())
