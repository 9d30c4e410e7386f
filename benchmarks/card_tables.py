# SPDX-License-Identifier: Apache-2.0
"""Write what a committed CPU run measured into the CARD.md of every package that has room for it.

`benchmarks/cpu/run --record NAME` measures, keeps the results with the sources and fills the cards.
A card has room between a line `<!-- measured: PATH -->`, which names the results it was made from,
and a line `<!-- measured: end -->`; tests/kernels/test_cards.py holds the two together.
"""

from __future__ import annotations

import re
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import families
from families.floors import CPU_LARGE, cached_gbps, ratio, turn_shares
from protocol.machine import ROOT
from protocol.rows import (
    COMPILED,
    COMPOSED,
    FUSED,
    OURS,
    Result,
    Row,
    read_result,
)

# Load average up to which a machine is quiet enough for its figures to be kept.
QUIET = 1.0
RESULTS = ROOT / "benchmarks" / "results"
ROOM = re.compile(r"<!-- measured: (?P<source>\S+) -->\n(?P<table>.*?)<!-- measured: end -->", re.S)


def large_problems(result: Result, ops: tuple[str, ...]) -> Iterator[dict[str, Row]]:
    """The large problems of `ops` with the best instruction set on all threads."""
    setting = {"isa": result.machine["isa"][0], "threads": max(result.machine["threads"])}
    groups = result.group().values()
    for op in ops:
        for rows in groups:
            ours = rows.get(OURS)
            if ours is None or ours.op != op or not setting.items() <= ours.setting.items():
                continue
            if ours.us_median and ours.bytes >= CPU_LARGE:
                yield rows


def table(result: Result, ops: tuple[str, ...]) -> str:
    """The Markdown between the two lines of a card."""
    machine = result.machine
    problems = list(large_problems(result, ops))
    if not problems:
        raise ValueError(f"results for a card: expected large rows of {', '.join(ops)}, got none")
    lines = [
        "",
        f"Measured at commit {_commit(machine)} on {machine['processor']}, "
        f"instructions up to {machine['isa'][0]}, {max(machine['threads'])} threads, torch "
        f"{machine['torch']}, more than 64 MiB moved.",
        "A copy is torch's, timed between the same calls; `in cache` is what as many threads reach "
        "on rows that stay in their caches, where arithmetic is the only limit; `x` is another "
        "way's time over ours, the median over turns.",
        *_other_work(machine),
        "",
        "| op | dtype | shape | GB/s | % of a copy | GB/s in cache | x composed | x torch.compile "
        "| x torch's own op |",
        "|---" * 9 + "|",
    ]
    for rows in problems:
        ours = rows[OURS]
        times = [ratio(rows, name, OURS) for name in (COMPOSED, COMPILED, FUSED)]
        share = 100 * statistics.median(turn_shares(rows))
        shape, rate = "x".join(map(str, ours.shape)), cached_gbps(rows)
        shown = " | ".join("" if figure is None else f"{figure:.1f}" for figure in (rate, *times))
        lines.append(
            f"| `{ours.op}` | {ours.dtype} | {shape} | {ours.gbps:.1f} | {share:.0f} | {shown} |"
        )
    return "\n".join(lines) + "\n\n"


def _commit(machine: dict[str, Any]) -> str:
    """Short, with what `machine.commit` says of changes."""
    commit, _, more = machine["commit"].partition(" ")
    return f"{commit[:10]} {more}".strip()


def other_load(machine: dict[str, Any]) -> float:
    """Load average that is not the run's own, as far as it shows."""
    after = machine.get("load_average_after", 0.0) - max(machine["threads"])
    return max(machine["load_average"], after)


def _other_work(machine: dict[str, Any]) -> list[str]:
    load = other_load(machine)
    if load <= QUIET:
        return []
    return [f"Other work ran beside it (load average {load:.0f}): the figures are rough."]


def cards() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Every card with room, and the ops of its package."""
    for package in families.PACKAGES:
        card = ROOT / "kernels-community" / package / "CARD.md"
        if ROOM.search(card.read_text()):
            own = (family for family in families.ALL if family.package == package)
            yield card, tuple(op for family in own for op in family.ops)


def filled(card: str, source: str, ops: tuple[str, ...]) -> str:
    """The text of a card with the table of the results in `source`, a path in the sources."""
    text = f"<!-- measured: {source} -->\n{table(read_result(ROOT / source), ops)}"
    return ROOM.sub(lambda _: f"{text}<!-- measured: end -->", card)


def record(folder: Path, name: str) -> None:
    """Keep the results in `folder` with the sources as `name`, and fill every card from them."""
    for file in ("results.json", "results.md", "roofline.svg"):
        if (folder / file).is_file():
            shutil.copyfile(folder / file, RESULTS / f"{name}{Path(file).suffix}")
    source = str((RESULTS / f"{name}.json").relative_to(ROOT))
    for card, ops in cards():
        card.write_text(filled(card.read_text(), source, ops))
        print(f"filled {card.relative_to(ROOT)} from {source}")
