# SPDX-License-Identifier: Apache-2.0
"""The page that lists the environment variables names exactly those that are read."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOOLEAN_WORDS = {"TRUE"}


def test_every_variable_that_is_read_is_documented_and_no_other() -> None:
    source = (ROOT / "core" / "src" / "config.cpp").read_text()
    read = set(re.findall(r'"([A-Z][A-Z0-9_]{3,})"', source)) - BOOLEAN_WORDS
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    names = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    documented = {name for cell in names for name in re.findall(r"`([A-Z0-9_]+)`", cell)}
    assert len(read) > 20
    assert documented == read
