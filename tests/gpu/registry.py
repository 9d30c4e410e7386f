# SPDX-License-Identifier: Apache-2.0
"""The families whose checks tests/gpu/run runs: one file and one line each."""

from __future__ import annotations

from itertools import zip_longest

import activation_checks
import attention_checks
import layer_norm_checks
import relu_checks
import rmsnorm_checks
import rotary_checks
from checks import Check, Family

FAMILIES: tuple[Family, ...] = (
    activation_checks.FAMILY,
    relu_checks.FAMILY,
    layer_norm_checks.FAMILY,
    rotary_checks.FAMILY,
    rmsnorm_checks.FAMILY,
    attention_checks.FAMILY,
)
PACKAGES = tuple(dict.fromkeys(name for family in FAMILIES for name in family.packages))
OPS = tuple(op for family in FAMILIES for op in family.ops)
# By name: the first one of every family, then the second one of each, so that a run that is cut
# short has tried them all.
CHECKS: dict[str, tuple[Family, Check]] = {
    check.__name__: (family, check)
    for turn in zip_longest(*(family.checks for family in FAMILIES))
    for family, check in zip(FAMILIES, turn, strict=True)
    if check is not None
}


def selected(family: Family, names: list[str] | None) -> tuple[str, ...]:
    """The ops of the family that --op names; a package stands for all of them."""
    known = {*family.packages, *(name.replace("-", "_") for name in family.packages)}
    if not names or known & set(names):
        return family.ops
    return tuple(op for op in family.ops if op in names)


def packages(family: Family, names: list[str] | None) -> tuple[str, ...]:
    """The packages of the family that --op names; where it names none of them, all."""
    asked = {name.replace("_", "-") for name in names or ()}
    return tuple(name for name in family.packages if name in asked) or family.packages
