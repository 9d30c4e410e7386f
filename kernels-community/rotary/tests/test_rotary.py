# SPDX-License-Identifier: Apache-2.0
"""What users of the package rely on: agreement with the eager formula of Llama-like models."""

import pytest
import torch

BOUNDS = {
    torch.float32: (0.0, 0.0),
    torch.float16: (2e-3, 2e-3),
    torch.bfloat16: (2e-2, 1.6e-2),
}


def rotate_half(x):
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def eager(x, cos, sin):
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return x * cos + rotate_half(x) * sin


def tables(batch, length, width, device):
    angles = torch.randn(batch, length, width // 2, device=device)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("width", (64, 80, 128))
def test_the_layer_agrees_with_eager(kernel, device, width, batch, dtype):
    torch.manual_seed(0)
    q = torch.randn(batch, 17, 8, width, device=device).to(dtype).transpose(1, 2)
    k = torch.randn(batch, 17, 2, width, device=device).to(dtype).transpose(1, 2)
    cos, sin = (t.to(dtype) for t in tables(batch, 17, width, device))
    results = kernel.layers.apply_rotary_transformers()(q, k, cos, sin)
    for x, result in zip((q, k), results, strict=True):
        bounds = dict(zip(("atol", "rtol"), BOUNDS[dtype], strict=True))
        torch.testing.assert_close(result, eager(x, cos, sin), **bounds)


def test_halves_are_rotated_in_place(kernel, device):
    torch.manual_seed(0)
    x = torch.randn(5, 33, 4, 64, device=device)
    cos, sin = tables(1, 33, 64, device)
    expected = eager(x.transpose(1, 2), cos, sin).transpose(1, 2)
    x1, x2 = x.chunk(2, dim=-1)
    c, s = (t[0, :, None, :32] for t in (cos, sin))
    kernel.apply_rotary(x1, x2, c, s, x1, x2, False)
    assert torch.equal(x, expected)
    kernel.apply_rotary(x1, x2, c, s, x1, x2, True)


def test_ops_pass_opcheck(kernel, device):
    q, k = torch.randn(2, 4, 5, 8, device=device), torch.randn(2, 2, 5, 8, device=device)
    cos, sin = tables(2, 5, 8, device)
    op = kernel.ops.apply_rotary_transformers.default
    torch.library.opcheck(op, (torch.empty_like(q), torch.empty_like(k), q, k, cos, sin, False, 1))
