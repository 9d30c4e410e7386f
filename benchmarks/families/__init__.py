# SPDX-License-Identifier: Apache-2.0
"""The families of ops that benchmarks/cpu and benchmarks/gpu measure: one file and one line each.

python -m families prints the packages that they lie in.
"""

from __future__ import annotations

from collections.abc import Iterator

from families.activation import Activation
from families.attention import Attention
from families.family import Family
from families.layer_norm import DropoutAddLayerNorm, LayerNorm, LayerNormBackward
from families.relu import Relu
from families.rmsnorm import FusedAddRMSNorm, RMSNorm, RMSNormBackward
from families.rotary import Rotary

ALL: tuple[Family, ...] = (
    Activation(),
    Relu(),
    LayerNorm(),
    LayerNormBackward(),
    DropoutAddLayerNorm(),
    RMSNorm(),
    RMSNormBackward(),
    FusedAddRMSNorm(),
    Rotary(),
    Attention(),
)
PACKAGES = tuple(dict.fromkeys(family.package for family in ALL))


def of(op: str) -> Family:
    """The family that has `op`."""
    (family,) = (family for family in ALL if op in family.ops)
    return family


def selected(names: list[str] | None, is_quick: bool) -> Iterator[tuple[Family, str]]:
    """The ops that --op names; a family or package stands for all of its ops, with --quick for the
    headline ones where it has some. Without names: all ops, or the headline ones of every family.
    """
    known = {name for family in ALL for name in (*family.ops, *family.names)}
    unknown = sorted(set(names or ()) - known)
    if unknown:
        raise SystemExit(f"{_expected()}, got {', '.join(unknown)}")
    for family in ALL:
        few = family.headline or (family.ops if names else ())
        whole = set(few if is_quick else family.ops)
        is_named = not names or not family.names.isdisjoint(names)
        for op in family.ops:
            if op in (names or ()) or (is_named and op in whole):
                yield family, op


def nothing_selected(names: list[str] | None) -> str:
    """What a driver says that has nothing to measure."""
    return f"{_expected()} that is measured with these flags, got {', '.join(names or ())}"


def _expected() -> str:
    groups = sorted({name for family in ALL for name in (family.name, family.package)})
    ops = [op for family in ALL for op in family.ops]
    return f"--op: expected one of {', '.join(groups)}, or an op: {', '.join(ops)}"
