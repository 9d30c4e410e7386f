# SPDX-License-Identifier: Apache-2.0
"""One measured row and the results file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1

MEASURED, FAILED, ABSENT, NOT_RUN = "measured", "FAIL", "absent", "not run"

# What every driver calls its candidates. The last four are yardsticks, no references: another op.
# OURS_CACHED is the op on so few rows that memory is no limit: what a thread's arithmetic takes.
OURS, OURS_C, OURS_CACHED = "ours", "ours, C ABI", "ours, one thread in cache"
COMPOSED, FUSED = "torch composed", "torch fused"
COMPILED, AUTOTUNED = "torch.compile", "torch.compile, max-autotune"
NEG, NEG_OP = "torch.neg", "torch.ops.aten.neg.out"
COPY, READ = "copy", "read"
YARDSTICKS = (NEG, NEG_OP, COPY, READ)


@dataclass(frozen=True)
class Row:
    """One candidate on one problem.

    `setting` holds what else tells two rows apart: threads and isa on a CPU, the way of launching
    on a GPU. `status` is MEASURED, FAILED (wrong values, so nothing was timed), ABSENT or NOT_RUN
    (`reason` says why). Times are microseconds of one call: the median, the 10th and 90th
    percentile, the minimum. `spread` is how far two measurements of this candidate lay apart,
    relative to the smaller; `turns` the median of each turn, in the order in which all candidates
    took them. `bytes` is the least traffic the op can do; `copy_gbps` the bandwidth of a plain copy
    measured between the same candidates; `err` the relative error in the 2-norm against fp64.
    """

    op: str
    dtype: str
    shape: tuple[int, ...]
    candidate: str
    setting: dict[str, str | int] = field(default_factory=dict)
    status: str = MEASURED
    reason: str = ""
    us_median: float | None = None
    p10: float | None = None
    p90: float | None = None
    us_min: float | None = None
    spread: float | None = None
    turns: tuple[float, ...] = ()
    bytes: int = 0
    flops: int = 0
    copy_gbps: float | None = None
    err: float | None = None

    @property
    def gbps(self) -> float | None:
        """Bandwidth of the least traffic in GB/s."""
        return self.bytes / self.us_median / 1e3 if self.us_median and self.bytes else None

    @property
    def tflops(self) -> float | None:
        """Arithmetic rate in TFLOP/s."""
        return self.flops / self.us_median / 1e6 if self.us_median and self.flops else None

    @property
    def pct_copy(self) -> float | None:
        """Bandwidth in percent of the copy's."""
        return 100 * self.gbps / self.copy_gbps if self.gbps and self.copy_gbps else None

    @property
    def problem(self) -> tuple[Any, ...]:
        """What candidates must share to be compared."""
        return self.op, self.dtype, self.shape, tuple(sorted(self.setting.items()))

    def as_json(self) -> dict[str, Any]:
        """The row with its setting and its rates beside the other fields."""
        fields = {**vars(self)}
        setting = fields.pop("setting")
        rates = {"GBps": self.gbps, "TFLOPs": self.tflops, "pct_copy": self.pct_copy}
        return {**fields, **setting, **rates}


def row_from_json(entry: dict[str, Any]) -> Row:
    """The inverse of Row.as_json: a key that is neither field nor rate belongs to the setting."""
    rates = {"GBps", "TFLOPs", "pct_copy"}
    known = {name: entry[name] for name in Row.__dataclass_fields__ if name in entry}
    setting = {name: value for name, value in entry.items() if name not in known.keys() | rates}
    tuples = {"shape": tuple(entry["shape"]), "turns": tuple(entry.get("turns", ()))}
    return Row(**known | tuples, setting=setting)


def turn_ratios(one: Row | None, other: Row | None) -> list[float]:
    """Time of one candidate over another's, turn by turn, as far as both have turns.

    Of rows without turns the one ratio; empty where either was not timed.
    """
    if one is None or other is None or not one.us_median or not other.us_median:
        return []
    pairs = list(zip(one.turns, other.turns, strict=False))
    return [a / b for a, b in pairs] if pairs else [one.us_median / other.us_median]


@dataclass
class Result:
    """A run: the machine in words, its ceilings by name and unit, all rows."""

    machine: dict[str, Any]
    ceilings: dict[str, float]
    rows: list[Row]

    def group(self) -> dict[tuple[Any, ...], dict[str, Row]]:
        """Rows by problem, then by candidate."""
        problems: dict[tuple[Any, ...], dict[str, Row]] = {}
        for row in self.rows:
            problems.setdefault(row.problem, {})[row.candidate] = row
        return problems

    def as_text(self) -> str:
        """The results file, one row per line."""
        rows = ",\n  ".join(json.dumps(compact(row.as_json())) for row in self.rows)
        head = {
            "schema_version": SCHEMA_VERSION,
            "machine": self.machine,
            "ceilings": compact(self.ceilings),
        }
        text = json.dumps(head, indent=1).removesuffix("\n}")
        return f'{text},\n "rows": [\n  {rows}\n ]\n}}\n'


def compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Drops empty fields and digits that carry nothing."""
    short = {name: _short(value) for name, value in entry.items()}
    return {name: value for name, value in short.items() if value not in (None, "", ())}


def _short(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_short, value))
    return float(f"{value:.4g}") if isinstance(value, float) else value


def read_result(path: Path) -> Result:
    """Read a results file; SystemExit for one of another schema."""
    document = json.loads(path.read_text())
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise SystemExit(f"{path} schema_version: expected {SCHEMA_VERSION}, got {version}")
    return Result(
        document["machine"], document["ceilings"], [row_from_json(row) for row in document["rows"]]
    )
