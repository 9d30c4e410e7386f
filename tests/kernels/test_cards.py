# SPDX-License-Identifier: Apache-2.0
"""The cards say what the committed runs measured."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import card_tables
from protocol.rows import OURS_CACHED, Result, Row

CARDS = [pytest.param(card, ops, id=card.parent.name) for card, ops in card_tables.cards()]


@pytest.mark.parametrize(("card", "ops"), CARDS)
def test_a_card_holds_the_table_of_the_results_that_it_names(
    card: Path, ops: tuple[str, ...]
) -> None:
    text = card.read_text()
    room = card_tables.ROOM.search(text)
    assert room is not None
    # benchmarks/cpu/run --record writes it.
    assert card_tables.filled(text, room["source"], ops) == text
    rows = [line for line in room["table"].splitlines() if line.startswith("| `")]
    assert rows
    assert {line.split("`")[1] for line in rows} <= set(ops)


def test_a_run_that_did_not_measure_a_package_fills_no_card() -> None:
    run = Result({"isa": ["avx512"], "threads": [1, 2]}, {}, [])
    with pytest.raises(ValueError, match="expected large rows of relu, got none"):
        card_tables.table(run, ("relu",))


def test_a_card_says_that_other_work_ran_beside_the_run() -> None:
    row = Row("relu", "float32", (8192, 1536), "ours", {"isa": "avx512", "threads": 2})
    row = replace(row, us_median=1e4, bytes=1 << 27, copy_gbps=20.0)
    facts = {"isa": ["avx512"], "threads": [1, 2], "commit": "c" * 40, "processor": "any"}
    busy, quiet = (
        card_tables.table(
            Result({**facts, "torch": "2.11", "load_average": load}, {}, [row]), ("relu",)
        )
        for load in (7.2, 0.4)
    )
    assert "Other work ran beside it (load average 7): the figures are rough." in busy
    assert "Other work" not in quiet


def test_a_card_shows_what_all_threads_reach_where_memory_is_no_limit() -> None:
    row = Row("relu", "float32", (8192, 1536), "ours", {"isa": "avx512", "threads": 2})
    row = replace(row, us_median=1e4, bytes=1 << 27, copy_gbps=20.0)
    cached = replace(row, candidate=OURS_CACHED, us_median=10.0, bytes=1 << 19, copy_gbps=None)
    facts = {"isa": ["avx512"], "threads": [1, 2], "commit": "c" * 40, "processor": "any"}
    run = Result({**facts, "torch": "2.11", "load_average": 0.4}, {}, [row, cached])
    (line,) = (line for line in card_tables.table(run, ("relu",)).splitlines() if "`relu`" in line)
    assert line.startswith("| `relu` | float32 | 8192x1536 | 13.4 | 67 | 104.9 |")


def test_a_recorded_run_is_kept_and_fills_every_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (card, ops), *_ = card_tables.cards()
    source = card_tables.ROOM.search(card.read_text())["source"]  # type: ignore[index]
    run, root = tmp_path / "run", tmp_path / "root"
    copy = root / "CARD.md"
    for folder in (run, root / "results"):
        folder.mkdir(parents=True)
    (run / "results.json").write_text((card_tables.ROOT / source).read_text())
    copy.write_text("<!-- measured: old.json -->\nstale\n<!-- measured: end -->\n")
    monkeypatch.setattr(card_tables, "ROOT", root)
    monkeypatch.setattr(card_tables, "RESULTS", root / "results")
    monkeypatch.setattr(card_tables, "cards", lambda: iter([(copy, ops)]))
    card_tables.record(run, "new.run")
    assert copy.read_text().startswith("<!-- measured: results/new.run.json -->")
    assert any(f"| `{op}` |" in copy.read_text() for op in ops)


def test_the_packages_of_elementwise_ops_have_a_table() -> None:
    assert {card.parent.name for card, _ in card_tables.cards()} >= {"activation", "relu"}
