# SPDX-License-Identifier: Apache-2.0
"""The ops of layer-norm in fp64, written from the formulas; autograd gives their gradients."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Maybe = torch.Tensor | None


def norm(x: torch.Tensor, weight: Maybe, bias: Maybe, eps: float, is_rms: bool) -> torch.Tensor:
    """Normalisation over the last dimension."""
    mean = 0.0 if is_rms else x.mean(-1, keepdim=True)
    n = (x - mean) / ((x - mean).square().mean(-1, keepdim=True) + eps).sqrt()
    n = n if weight is None else n * weight
    return n if bias is None else n + bias


def dropped(x: torch.Tensor, mask: Maybe, dropout_p: float) -> torch.Tensor:
    """Dropout by a given mask."""
    return x if mask is None else torch.where(mask.bool(), x / (1.0 - dropout_p), 0.0)


def take_rows(x: torch.Tensor, subset: Maybe) -> torch.Tensor:
    """Row r is row subset[r] - 1 of x, zeros for 0."""
    if subset is None:
        return x
    return torch.cat([x.new_zeros((1, x.shape[1])), x])[subset.long()]


def put_rows(z: torch.Tensor, subset: Maybe, rows: int) -> torch.Tensor:
    """Row subset[r] - 1 of the result is row r of z, zeros elsewhere."""
    if subset is None:
        return z
    return z.new_zeros((rows + 1, z.shape[1])).index_copy(0, subset.long(), z)[1:]


def fused(
    x0: torch.Tensor,
    x1: Maybe,
    residual: Maybe,
    gamma0: Maybe,
    beta0: Maybe,
    gamma1: Maybe,
    beta1: Maybe,
    rowscale: Maybe,
    colscale: Maybe,
    x0_subset: Maybe,
    z_subset: Maybe,
    dropout_p: float,
    eps: float,
    rowscale_const: float,
    z_numrows: int,
    is_rms: bool,
    dmask0: Maybe,
    dmask1: Maybe,
) -> tuple[torch.Tensor, Maybe, torch.Tensor]:
    """z0, z1, x."""
    scaled = x0 if colscale is None else x0 * colscale
    x = take_rows(dropped(scaled, dmask0, dropout_p), x0_subset) * rowscale_const
    if rowscale is not None:
        x = x * rowscale.view(*x.shape[:-1], 1)
    if x1 is not None:
        x = x + dropped(x1, dmask1, dropout_p)
    if residual is not None:
        x = x + residual
    z0 = put_rows(norm(x, gamma0, beta0, eps, is_rms), z_subset, z_numrows)
    z1 = None if gamma1 is None else norm(x, gamma1, beta1, eps, is_rms)
    return z0, None if z1 is None else put_rows(z1, z_subset, z_numrows), x


def mask(seed: int, stream: int, rows: int, cols: int, dropout_p: float) -> torch.Tensor:
    """What dropout keeps, [rows, cols] of uint8: Philox4x32-10, key `seed`, counter (group of four
    columns, stream, row)."""
    groups = (cols + 3) // 4
    low = 0xFFFFFFFF
    a = torch.arange(groups).expand(rows, groups)
    b = torch.full_like(a, stream)
    c = torch.arange(rows)[:, None].expand(rows, groups)
    d = torch.zeros_like(a)
    key0, key1 = seed & low, seed >> 32 & low
    for _ in range(10):
        first, second = _product(0xD2511F53, a), _product(0xCD9E8D57, c)
        a, b, c, d = second[0] ^ b ^ key0, second[1], first[0] ^ d ^ key1, first[1]
        key0, key1 = key0 + 0x9E3779B9 & low, key1 + 0xBB67AE85 & low
    words = torch.stack([a, b, c, d], dim=-1).reshape(rows, -1)[:, :cols]
    return (words < int((1.0 - dropout_p) * 2.0**32)).to(torch.uint8)


def _product(factor: int, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Upper and lower 32 bits of a product of 32-bit numbers, by halves: int64 has no room."""
    upper, lower = words >> 16, words & 0xFFFF
    low_part = factor * lower
    high_part = factor * upper + (low_part >> 16)
    return high_part >> 16, (high_part & 0xFFFF) << 16 | low_part & 0xFFFF


class Results(TorchDispatchMode):
    """Keeps the tensors that calls of one op return."""

    def __init__(self, op: str) -> None:
        super().__init__()
        self.op = op
        self.tensors: list[torch.Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ == self.op:
            self.tensors += results
        return results
