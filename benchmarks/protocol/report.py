# SPDX-License-Identifier: Apache-2.0
"""The flags that drivers share, and what they leave behind: JSON, Markdown, a picture, a status."""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from protocol import compare, gate
from protocol.rows import (
    ABSENT,
    COPY,
    FAILED,
    NOT_RUN,
    OURS,
    OURS_CACHED,
    Result,
    Row,
    read_result,
    turn_ratios,
)


def flags(description: str) -> argparse.ArgumentParser:
    """A parser with the flags of every driver."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--gate", action="store_true", help="fail when a floor is missed")
    parser.add_argument("--quick", action="store_true", help="a subset in less than 90 seconds")
    parser.add_argument("--op", action="append", metavar="NAME", help="an op or a package")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="flag regressions")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where results.* go")
    return parser


def finish(
    arguments: argparse.Namespace,
    result: Result,
    floors: list[gate.Floor],
    method: str,
    write: Callable[[Path, str], object] = Path.write_text,
) -> int:
    """Write results.{json,md} and roofline.svg below `arguments.output`; the exit status.

    `method` tells the page's reader what a driver did beside what all do. `write` is how one
    rewrites a results.json that it has written before.
    Wrong values of ours always fail (1); missed floors only with --gate (1), and so do floors that
    the run cannot judge or did not come to (2: measure again); regressions only with --compare (1).
    """
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "results.json", result.as_text())
    missed, unsure = gate.misses(result, floors), gate.doubts(floors)
    (folder / "results.md").write_text(to_markdown(result, floors, method))
    print(f"results: {folder / 'results.md'}")
    print(draw(result, folder / "roofline.svg"))
    slower, others = [], ""
    if arguments.compare:
        old = read_result(arguments.compare)
        slower = compare.regressions(old, result)
        if count := compare.unmatched(old, result):
            others = f"; {count} rows of ours have no match in {arguments.compare}"
    for line in unsure + missed + slower:
        print(line)
    print(f"{_counts(result, floors)}; {len(slower)} regressions{others}")
    wrong = any(row.status == FAILED and row.candidate.startswith(OURS) for row in result.rows)
    if wrong or slower or (arguments.gate and missed):
        return 1
    return 2 if arguments.gate and (unsure or gate.unjudged(floors)) else 0


def _counts(result: Result, floors: list[gate.Floor]) -> str:
    missed, unsure = gate.misses(result, floors), gate.doubts(floors)
    not_run = gate.unjudged(floors)
    counts = f"{len(floors)} floors, {len(missed)} missed, {len(unsure)} unsure"
    return f"{counts}, {len(not_run)} not run" if not_run else counts


def to_markdown(result: Result, floors: list[gate.Floor], method: str) -> str:
    """The run as a page: machine, method, ceilings, floors, one table per op."""
    judged = gate.misses(result, floors) + gate.doubts(floors) + gate.unjudged(floors)
    lines = ["# Benchmark results", "", "| machine | |", "|---|---|"]
    lines += [f"| {name} | {_words(value)} |" for name, value in result.machine.items()]
    lines += ["", "| ceiling | |", "|---|---|"]
    lines += [f"| {name} | {value:.4g} |" for name, value in result.ceilings.items()]
    lines += ["", f"{_counts(result, floors)}."]
    lines += ["", *(f"- {line}" for line in judged)] if judged else []
    lines += [
        "",
        "Times are microseconds per call: the least of the turns' medians. `x ours` is a time over",
        "ours, the median over turns, so more than 1 means that ours is faster; a gap within the",
        "spread says nothing.",
        "A floor is unsure where the quartiles of its figure, turn by turn, lie on both sides.",
        *(["", method] if method else []),
    ]
    problems = result.group()
    for op in dict.fromkeys(row.op for row in result.rows):
        lines += ["", f"## {op}", ""]
        lines += ["| dtype | shape | setting | candidate | us | p10 | p90 | spread | GB/s | % copy"]
        lines[-1] += " | error | x ours |"
        lines += ["|---" * 12 + "|"]
        for candidates in problems.values():
            rows = list(candidates.values())
            if rows[0].op == op:
                lines += [_line(row, candidates) for row in rows]
    return "\n".join(lines) + "\n"


def _line(row: Row, candidates: Mapping[str, Row]) -> str:
    setting = ", ".join(f"{name} {value}" for name, value in row.setting.items())
    head = f"| {row.dtype} | {'x'.join(map(str, row.shape))} | {setting} | {row.candidate} |"
    error = "" if row.err is None else f"{row.err:.1e}"
    if row.us_median is None:
        why = f"{row.status}: {row.reason}" if row.status in (ABSENT, NOT_RUN) else row.status
        return f"{head} {why} | | | | | | {error} | |"
    is_ours_alike = row.candidate != OURS_CACHED  # fewer rows: its time is no other way's
    over_ours = turn_ratios(row, candidates.get(OURS)) if is_ours_alike else []
    ratio = f"{statistics.median(over_ours):.2f}" if over_ours else ""
    numbers = [row.us_median, row.p10, row.p90]
    times = " | ".join("" if value is None else f"{value:.4g}" for value in numbers)
    spread = "" if row.spread is None else f"{row.spread:.0%}"
    rates = " | ".join(
        "" if value is None else f"{value:.3g}" for value in (row.gbps, row.pct_copy)
    )
    return f"{head} {times} | {spread} | {rates} | {error} | {ratio} |"


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def draw(result: Result, path: Path) -> str:
    """Bandwidth of the largest shapes in percent of the copy, in the setting with the most rows; a
    line that says what was drawn.
    """
    try:
        import matplotlib
    except ImportError:
        return "no picture: matplotlib is absent"
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "results"
    from matplotlib import pyplot

    rows = [
        row
        for row in result.rows
        if row.pct_copy is not None and row.candidate != COPY and not row.flops
    ]
    if not rows:
        return "no picture: no row has a bandwidth"
    counts = Counter(tuple(row.setting.items()) for row in rows)
    ((setting, _),) = counts.most_common(1)
    rows = [row for row in rows if tuple(row.setting.items()) == setting]
    most = max(row.bytes for row in rows)
    rows = [row for row in rows if row.bytes * 4 >= most]
    labels = list(dict.fromkeys(_label(row) for row in rows))
    candidates = list(dict.fromkeys(row.candidate for row in rows))
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.24 * len(labels)))
    for index, candidate in enumerate(candidates):
        own = [row for row in rows if row.candidate == candidate]
        axes.scatter(
            [row.pct_copy for row in own],
            [labels.index(_label(row)) for row in own],
            s=22 if candidate == "ours" else 12,
            color=f"C{index}",
            label=candidate,
        )
    axes.axvline(100, color="grey", linewidth=1)
    axes.set_yticks(range(len(labels)), labels, fontsize=6)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("bandwidth, % of a copy in the same run")
    axes.set_title(", ".join(f"{name} {value}" for name, value in setting), fontsize=8)
    axes.legend(fontsize=7)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return f"picture: {path}"


def _label(row: Row) -> str:
    return f"{row.op} {row.dtype}"
