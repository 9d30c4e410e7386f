# SPDX-License-Identifier: Apache-2.0
"""The cards say what the committed runs measured."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import card_tables

CARDS = [pytest.param(card, ops, id=card.parent.name) for card, ops in card_tables.cards()]


@pytest.mark.parametrize(("card", "ops"), CARDS)
def test_a_card_holds_the_table_of_the_results_that_it_names(
    card: Path, ops: tuple[str, ...]
) -> None:
    text = card.read_text()
    source = card_tables.ROOM.search(text)["source"]  # type: ignore[index]
    # benchmarks/card_tables.py writes it.
    assert card_tables.filled(text, source, ops) == text


def test_the_packages_of_elementwise_ops_have_a_table() -> None:
    assert {card.parent.name for card, _ in card_tables.cards()} >= {"activation", "relu"}
