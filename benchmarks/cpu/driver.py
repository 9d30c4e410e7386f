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
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import card_tables
import families
from families import floors as bounds
from families.family import Scope
from protocol import machine, report
from protocol.gate import Floor
from protocol.rows import FAILED, FUSED, OURS, Result, Row, row_from_json

HERE = Path(__file__).parent
# What each level of primitives/cpu_dispatch.h needs first of all.
LEVELS = {
    "amx": "amx_bf16",
    "avx512_bf16": "avx512_bf16",
    "avx512": "avx512bw",
    "avx2": "avx2",
    "scalar": "",
}
METHOD = """\
Large problems and the copies beside them go round sets of buffers that together exceed the
last-level cache twice: memory is measured. "ours, one thread in cache" is the same op on rows that
stay in the second-level cache: what its arithmetic takes. All threads at that speed are what a
floor's line calls "in cache". The allocator keeps blocks of any size
(MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_), and their pages were touched before: without that
ways that allocate their result, torch's and ours, pay for pages from the kernel in every call, up
to three times the time of the work. torch's ways are timed with the best instruction set only;
beside another one they count in units of the copy between the same calls. On a few values the C
call, on the DLPack tensors that it takes, stands beside torch.neg, which generated code binds, and
the torch op beside torch.ops.aten.neg.out, which is dispatched by its schema as every op of a
loaded library is: that costs more than the work, ours and torch's alike. What runs at nine tenths
of the copy's speed has no more to gain, and is not held to a multiple of torch's; but for
gelu_fast, which is. Decoding writes next to nothing: there the yardstick is "read", torch.amax of
as many bytes."""


@dataclass(frozen=True)
class Part:
    """What one process measures."""

    isa: str
    threads: int
    scope: Scope

    def problems(self, names: list[str] | None) -> int:
        """How many."""
        chosen = families.selected(names, self.scope.quick)
        return sum(len(list(family.cpu_problems(op, self.scope))) for family, op in chosen)


def levels(cpuinfo: str | None = None) -> list[str]:
    """The instruction sets of this CPU, best first."""
    flags = (cpuinfo or Path("/proc/cpuinfo").read_text()).split()
    found = [name for name, flag in LEVELS.items() if not flag or flag in flags]
    if "avx512_bf16" in found and "AuthenticAMD" not in flags:  # slower than fp32 there
        found.remove("avx512_bf16")
        found.insert(found.index("avx512") + 1, "avx512_bf16")
    return found


def different_levels(found: list[str]) -> list[str]:
    """The best one and those below AVX-512: the other packages have one code for all from there."""
    return found[:1] + [name for name in found[1:] if name in ("avx2", "scalar")]


def environment(isa: str, threads: int, cores: list[int]) -> dict[str, str]:
    """Of a process that measures: its threads pinned, its allocator keeping what it has."""
    return os.environ | {
        "KERNELHUB_CPU_ISA": isa,
        "OMP_NUM_THREADS": str(threads),
        "OMP_PROC_BIND": "true",
        "OMP_PLACES": ",".join(f"{{{core}}}" for core in cores[:threads]),
        # A threshold for mapping blocks can't be raised above 32 MiB, mapping can be forbidden.
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 62),
    }


def measure(part: Part, cores: list[int], options: list[str]) -> dict[str, Any]:
    """What worker.py prints for one instruction set and thread count."""
    options = options + ["--best"] * part.scope.best + ["--references"] * part.scope.references
    command = [sys.executable, str(HERE / "worker.py"), part.isa, str(part.threads), *options]
    variables = environment(part.isa, part.threads, cores)
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def parts(isas: list[str], threads: list[int], is_quick: bool) -> Iterator[Part]:
    """Every process of a run; the best instruction set is the first of `isas`."""
    best = isas[0]
    for isa in isas:
        # No floor asks for the scalar build's speed: how it scales is of no interest.
        for count in threads if isa != "scalar" else threads[-1:]:
            is_best = isa == best and count == max(threads)
            yield Part(isa, count, Scope(is_quick, is_best, references=isa == isas[0]))


def floors(result: Result, cores: int) -> list[Floor]:
    """The floors of every family.

    The scalar build is there for processors without AVX2; no floor asks for its speed.
    """
    found = []
    for candidates in result.group().values():
        ours = candidates.get(OURS)
        if ours is not None and ours.us_median is not None and ours.setting["isa"] != "scalar":
            family = families.of(ours.op)
            found += family.cpu_floors(candidates | borrowed(result, candidates), cores)
            if ours.op in family.compute_bound:
                found += scaling(result, ours)
    return found


def borrowed(result: Result, candidates: dict[str, Row]) -> dict[str, Row]:
    """torch's op as it was timed with another instruction set, in units of the copy beside it."""
    ours = candidates[OURS]
    if candidates[FUSED].us_median is not None:
        return {}
    for row in result.rows:
        is_same = (row.op, row.dtype, row.shape) == (ours.op, ours.dtype, ours.shape)
        if not is_same or row.candidate != FUSED or row.us_median is None:
            continue
        if row.setting["threads"] == ours.setting["threads"] and row.copy_gbps and ours.copy_gbps:
            scale = row.copy_gbps / ours.copy_gbps
            turns = tuple(scale * turn for turn in row.turns)
            return {FUSED: replace(row, us_median=scale * row.us_median, turns=turns)}
    return {}


def scaling(result: Result, ours: Row) -> list[Floor]:
    """How much of their number several threads are worth where arithmetic is the limit."""
    count = int(ours.setting["threads"])
    alone = (ours.op, ours.dtype, ours.shape, tuple(sorted({**ours.setting, "threads": 1}.items())))
    one = result.group().get(alone, {}).get(OURS)
    if not 1 < count <= bounds.CPU_SCALING_THREADS or one is None or not one.us_median:
        return []
    pairs = zip(one.turns, ours.turns, strict=False)
    what = f"{bounds.label(ours)}: of {count} times the speed of one thread"
    values = [first / second / count for first, second in pairs]
    return bounds.judged(what, values, bounds.CPU_SCALING)


def main() -> int:
    """Measure, write, judge."""
    parser = report.flags("The CPU packages against torch.")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1, 2, 4, ... all cores")
    parser.add_argument(
        "--isa",
        nargs="+",
        choices=levels(),
        help="default: the best one of this CPU, avx2 and scalar",
    )
    parser.add_argument(
        "--record", metavar="NAME", help="keep as benchmarks/results/NAME.*, fill the cards from it"
    )
    arguments = parser.parse_args()
    if arguments.record and (arguments.op or arguments.isa or arguments.threads):
        parser.error("--record: expected a whole run, got --op, --isa or --threads")
    arguments.output = arguments.output or machine.ROOT / "build" / "benchmark-cpu"
    cores = sorted(os.sched_getaffinity(0))
    threads = arguments.threads or [
        *(1 << i for i in range(len(cores).bit_length()) if 1 << i < len(cores)),
        len(cores),
    ]
    if max(threads) > len(cores):
        parser.error(f"--threads: expected at most {len(cores)} cores, got {max(threads)}")
    chosen = arguments.isa or (levels()[:1] if arguments.quick else different_levels(levels()))
    isas = sorted(chosen, key=levels().index)
    options = ["--quick"] * arguments.quick
    for op in arguments.op or ():
        options += ["--op", op]
    wanted = [part for part in parts(isas, threads, arguments.quick) if part.problems(arguments.op)]
    result = Result(machine.host() | {"isa": isas, "threads": threads}, {}, [])
    print("\n".join(f"{name}: {value}" for name, value in result.machine.items()))
    if arguments.record and " " in result.machine["commit"]:
        parser.error("--record: expected sources as committed, got some with changes")
    is_capped = False
    for part in wanted:
        print(f"measuring {part.isa}, {part.threads} threads", flush=True)
        found = measure(part, cores, options)
        for name, value in found["ceilings"].items():
            key = f"{name} GB/s, {part.threads} threads"
            result.ceilings[key] = max(value, result.ceilings.get(key, 0.0))
        result.rows += [row_from_json(row) for row in found["rows"]]
        is_capped = is_capped or found["is_capped"]
    result.machine["buffers_in_turn"] = (
        "fewer than the cache asks for: they took a quarter of the memory"
        if is_capped
        else f"at least {2 * machine.last_level_cache() >> 20} MiB for what moves 16 MiB or more"
    )
    result.machine["load_average_after"] = os.getloadavg()[0]
    status = report.finish(arguments, result, floors(result, len(cores)), METHOD)
    if arguments.record:
        load = card_tables.other_load(result.machine)
        if load > card_tables.QUIET:
            print(f"not recorded: other work ran beside it (load average {load:.1f})")
            return 1
        if any(row.status == FAILED for row in result.rows):
            print("not recorded: some values are wrong")
            return 1
        card_tables.record(arguments.output, arguments.record)
    return status


if __name__ == "__main__":
    sys.exit(main())
