# SPDX-License-Identifier: Apache-2.0
"""What the benchmark drivers conclude from rows; no row here was measured."""

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from protocol import compare, report, timing
from protocol.gate import Floor
from protocol.rows import ABSENT, FAILED, OURS_CACHED, Result, Row, read_result

OURS = Row(
    "silu",
    "bfloat16",
    (4, 8),
    "ours",
    {"isa": "avx2", "threads": 2},
    us_median=10.0,
    p10=9.0,
    p90=12.0,
    us_min=8.0,
    spread=0.01,
    bytes=1_000_000,
    copy_gbps=200.0,
    err=1e-3,
    turns=(10.0, 10.5, 11.0),
)


def result(*rows: Row) -> Result:
    return Result({"processor": "any"}, {"copy": 200.0}, list(rows))


def finish(
    folder: Path, measured: Result, floors: list[Floor], *, gate: bool, old: Path | None = None
) -> int:
    arguments = argparse.Namespace(output=folder, gate=gate, compare=old)
    return report.finish(arguments, measured, floors, "How it was measured.")


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    absent = Row("silu", "bfloat16", (4, 8), "torch fused", status=ABSENT, reason="no such op")
    written = result(OURS, absent)
    (tmp_path / "results.json").write_text(written.as_text())
    assert read_result(tmp_path / "results.json") == written


def test_bandwidth_follows_from_bytes_and_time() -> None:
    assert OURS.gbps == pytest.approx(100.0)
    assert OURS.pct_copy == pytest.approx(50.0)


@pytest.mark.parametrize(("slowdown", "flagged"), [(1.02, False), (1.049, False), (1.06, True)])
def test_a_regression_is_more_than_three_percent_beyond_both_spreads(
    slowdown: float, flagged: bool
) -> None:
    slower = replace(OURS, us_median=10.0 * slowdown)
    assert bool(compare.regressions(result(OURS), result(slower))) == flagged


def test_a_slower_machine_is_no_regression() -> None:
    both_slower = replace(OURS, us_median=20.0, copy_gbps=100.0)
    assert compare.regressions(result(OURS), result(both_slower)) == []


def test_rows_that_an_earlier_run_lacks_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.json"
    old.write_text(result(replace(OURS, setting={"isa": "avx512", "threads": 2})).as_text())
    absent = replace(OURS, shape=(1, 1), status=ABSENT, us_median=None)
    assert finish(tmp_path, result(OURS, absent), [], gate=False, old=old) == 0
    assert f"; 1 rows of ours have no match in {old}" in capsys.readouterr().out
    old.write_text(result(OURS).as_text())
    finish(tmp_path, result(OURS, absent), [], gate=False, old=old)
    assert "no match" not in capsys.readouterr().out


def test_missed_floors_fail_with_gate_only(tmp_path: Path) -> None:
    floors = [Floor("silu: share of copy", 0.4, 0.5), Floor("silu: over neg", 1.0, 1.5, True)]
    assert finish(tmp_path, result(OURS), floors, gate=False) == 0
    assert finish(tmp_path, result(OURS), floors, gate=True) == 1
    assert "MISSED silu: share of copy: 0.40 >= 0.5" in (tmp_path / "results.md").read_text()
    assert finish(tmp_path, result(OURS), floors[1:], gate=True) == 0


@pytest.mark.parametrize(
    ("measured", "quartiles", "verdict"),
    [
        (0.6, None, "ok"),
        (0.6, (0.55, 0.7), "ok"),
        (0.6, (0.45, 0.7), "unsure"),
        (0.5, (0.5, 0.7), "ok"),
        (0.4, (0.35, 0.55), "unsure"),
        (0.4, (0.35, 0.45), "MISSED"),
        (0.4, None, "MISSED"),
    ],
)
def test_a_floor_within_the_quartiles_is_neither_reached_nor_missed(
    measured: float, quartiles: tuple[float, float] | None, verdict: str
) -> None:
    assert Floor("share of copy", measured, 0.5, quartiles=quartiles).verdict == verdict


def test_a_floor_shows_its_quartiles_and_what_it_would_be_in_cache() -> None:
    floor = Floor("share", 0.4, 0.5, quartiles=(0.35, 0.45), in_cache=0.48)
    assert str(floor) == "MISSED share: 0.40 >= 0.5 (quartiles 0.35 to 0.45; 0.48 in cache)"


def test_rows_in_cache_are_no_other_way_to_compute_the_problem(tmp_path: Path) -> None:
    cached = replace(OURS, candidate=OURS_CACHED, us_median=1.0, copy_gbps=None)
    finish(tmp_path, result(OURS, cached), [], gate=False)
    lines = (tmp_path / "results.md").read_text().splitlines()
    (line,) = (line for line in lines if OURS_CACHED in line)
    assert line.split("|")[-2].strip() == ""


def test_an_unsure_floor_is_said_aloud_and_asks_for_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    floors = [Floor("silu: share of copy", 0.49, 0.5, quartiles=(0.47, 0.52))]
    assert finish(tmp_path, result(OURS), floors, gate=False) == 0
    assert finish(tmp_path, result(OURS), floors, gate=True) == 2
    printed, page = capsys.readouterr().out, (tmp_path / "results.md").read_text()
    for text in (printed, page):
        assert "unsure silu: share of copy: 0.49 >= 0.5 (quartiles 0.47 to 0.52)" in text
        assert "1 floors, 0 missed, 1 unsure" in text
    assert "How it was measured." in page


def test_wrong_values_always_fail_and_have_no_time(tmp_path: Path) -> None:
    wrong = Row("silu", "bfloat16", (4, 8), "ours", status=FAILED, reason="off", err=0.5)
    assert finish(tmp_path, result(wrong), [], gate=False) == 1
    assert "| ours | FAIL |" in (tmp_path / "results.md").read_text()


def test_a_reference_with_wrong_values_is_no_fault_of_ours(tmp_path: Path) -> None:
    wrong = replace(OURS, candidate="flashinfer", status=FAILED, reason="off", us_median=None)
    assert finish(tmp_path, result(OURS, wrong), [], gate=True) == 0
    assert "| flashinfer | FAIL |" in (tmp_path / "results.md").read_text()


def test_a_floor_without_a_figure_is_not_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    floors = [Floor("silu: share of copy", None, 0.5)]
    assert finish(tmp_path, result(OURS), floors, gate=False) == 0
    assert finish(tmp_path, result(OURS), floors, gate=True) == 2
    assert "1 floors, 0 missed, 0 unsure, 1 not run" in capsys.readouterr().out
    assert "- not run silu: share of copy" in (tmp_path / "results.md").read_text()
    missed = [*floors, Floor("silu: over neg", 2.0, 1.5, at_most=True)]
    assert finish(tmp_path, result(OURS), missed, gate=True) == 1


def test_a_regression_fails_a_comparison(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(result(OURS).as_text())
    slower = result(replace(OURS, us_median=20.0))
    assert finish(tmp_path, slower, [], gate=False, old=tmp_path / "old.json") == 1


def test_candidates_take_turns_and_the_least_median_counts() -> None:
    order: list[str] = []
    samples = {"a": [9.0, 5.0, 7.0, 6.0], "b": [9.0, 1.0, 1.0, 1.0]}

    def turn(name: str) -> list[float]:
        order.append(name)
        return [samples[name][order.count(name) - 1]] * 3

    timings = timing.interleaved({"a": lambda: turn("a"), "b": lambda: turn("b")}, rounds=3)
    assert "".join(order) == "abababab"
    assert timings["a"].us_median == 5.0  # the first turn does not count
    assert timings["a"].spread == pytest.approx(2.0 / 5.0)
    assert timings["b"].spread == 0.0
    assert timings["a"].turns == (5.0, 7.0, 6.0)


def test_turns_go_on_while_ratios_vary_and_a_slow_candidate_takes_few() -> None:
    def turns_taken(
        *, is_noisy: bool, slow: tuple[str, ...] = (), cold: tuple[str, ...] = ()
    ) -> dict[str, int]:
        count = {"copy": 0, "it": 0}

        def turn(name: str) -> list[float]:
            count[name] += 1
            is_slow = name in slow or (name in cold and count[name] == 1)
            us = 1.1 * timing.SLOW_US if is_slow else 1.0
            return [us * (1 + 0.1 * (is_noisy and name == "it" and count[name] % 2))]

        turns = {name: partial(turn, name) for name in count}
        found = timing.interleaved(turns, rounds=4, most=6)
        extra = {name: 1 + (name in slow + cold) for name in count}
        assert {name: len(one.turns) + extra[name] for name, one in found.items()} == count
        return count

    assert turns_taken(is_noisy=False) == {"copy": 5, "it": 5}
    assert turns_taken(is_noisy=True) == {"copy": 7, "it": 7}
    # One more that does not count, to know that the first was slow not only for being the first.
    assert turns_taken(is_noisy=True, slow=("it",)) == {"copy": 5, "it": 5}
    assert turns_taken(is_noisy=True, slow=("copy",))["copy"] == 5
    assert turns_taken(is_noisy=True, slow=("copy", "it")) == {"copy": 5, "it": 5}
    assert turns_taken(is_noisy=False, cold=("copy", "it")) == {"copy": 6, "it": 6}
