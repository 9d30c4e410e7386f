# SPDX-License-Identifier: Apache-2.0
"""Rotary embedding from its formula, in a dtype of the caller's choice, and inputs for it."""

import torch


def tables(
    *shape: int, dtype: torch.dtype = torch.float32, halves: int = 2
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of random angles; the columns repeat `halves` times."""
    angles = torch.randn(*shape[:-1], shape[-1] // halves, dtype=torch.float64) * 3
    angles = torch.cat([angles] * halves, dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def pairs(x: torch.Tensor, rotary_dim: int, interleaved: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The two members of every rotated pair, as views."""
    if interleaved:
        return x[..., 0:rotary_dim:2], x[..., 1:rotary_dim:2]
    return x[..., : rotary_dim // 2], x[..., rotary_dim // 2 : rotary_dim]


def rotated(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor | None = None,
    rotary_dim: int | None = None,
    interleaved: bool = False,
    conj: bool = False,
    unsqueeze_dim: int = 1,
    wide: torch.dtype = torch.float64,
) -> torch.Tensor:
    """What x becomes, every step in `wide`, not rounded to x.dtype."""
    rotary_dim = x.shape[-1] if rotary_dim is None else rotary_dim
    if positions is not None:
        cos, sin = cos[positions.long()], sin[positions.long()]
    c = cos[..., : rotary_dim // 2].unsqueeze(unsqueeze_dim).to(wide)
    s = sin[..., : rotary_dim // 2].unsqueeze(unsqueeze_dim).to(wide)
    s = -s if conj else s
    out = x.to(wide).clone()
    x1, x2 = pairs(x.to(wide), rotary_dim, interleaved)
    out1, out2 = pairs(out, rotary_dim, interleaved)
    out1.copy_(x1 * c - x2 * s)
    out2.copy_(x2 * c + x1 * s)
    return out


def fp32_formula(x: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
    """`rotated` in fp32 (fp64 for an fp64 x), rounded once to x.dtype."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return rotated(x, *arguments, **options, wide=wide).to(x.dtype)  # type: ignore[arg-type]
