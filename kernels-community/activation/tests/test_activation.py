# SPDX-License-Identifier: Apache-2.0
"""What users of the package rely on: agreement with the eager formulas at the package's bounds."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

BOUNDS = {
    torch.float32: (1e-5, 1.3e-6),
    torch.float16: (1e-3, 1e-3),
    torch.bfloat16: (1e-3, 1.6e-2),
}
TOKENS = (7, 83, 2048)
WIDTHS = (512, 13824)


def fast(x):
    return 0.5 * x * (1.0 + torch.tanh(x * 0.79788456 * (1.0 + 0.044715 * x * x)))


def new(x):
    return 0.5 * x * (1.0 + torch.tanh(0.79788456 * (x + 0.044715 * (x * x * x))))


GATED = {
    "silu_and_mul": ("SiluAndMul", lambda x, y: F.silu(x) * y),
    "mul_and_silu": ("MulAndSilu", lambda x, y: x * F.silu(y)),
    "gelu_and_mul": ("GeluAndMul", lambda x, y: F.gelu(x) * y),
    "gelu_tanh_and_mul": ("GeluTanhAndMul", lambda x, y: F.gelu(x, approximate="tanh") * y),
    "fatrelu_and_mul": ("FatreluAndMul", lambda x, y: F.threshold(x, 0.0, 0.0) * y),
}
UNARY = {
    "silu": ("Silu", F.silu),
    "gelu": ("Gelu", F.gelu),
    "gelu_tanh": ("GeluTanh", lambda x: F.gelu(x, approximate="tanh")),
    "gelu_fast": ("FastGELU", fast),
    "gelu_new": ("NewGELU", new),
    "gelu_quick": ("QuickGELU", lambda x: x * torch.sigmoid(1.702 * x)),
}


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("name", GATED)
def test_gated_functions_agree_with_eager(kernel, device, name, tokens, width, dtype):
    torch.manual_seed(0)
    x = torch.randn(tokens, 2 * width, device=device).to(dtype)
    layer, eager = GATED[name]
    expected = eager(x[:, :width], x[:, width:])
    out = torch.empty(tokens, width, device=device, dtype=dtype)
    assert getattr(kernel, name)(out, x) is out
    exact = dict(atol=0.0, rtol=0.0) if device == "cuda" else None
    bounds = exact or dict(zip(("atol", "rtol"), BOUNDS[dtype], strict=True))
    torch.testing.assert_close(out, expected, **bounds)
    assert torch.equal(getattr(kernel.layers, layer)()(x), out)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_tensor_agree_with_eager(kernel, device, name, tokens, width, dtype):
    torch.manual_seed(0)
    x = torch.randn(tokens, width, device=device).to(dtype)
    layer, eager = UNARY[name]
    out = torch.empty_like(x)
    assert getattr(kernel, name)(out, x) is out
    bounds = dict(zip(("atol", "rtol"), BOUNDS[dtype], strict=True))
    torch.testing.assert_close(out, eager(x), **bounds)
    assert torch.equal(getattr(kernel.layers, layer)()(x), out)


def test_ops_pass_opcheck(kernel, device):
    x = torch.randn(4, 32, device=device)
    for name in UNARY:
        torch.library.opcheck(getattr(kernel.ops, name).default, (torch.empty_like(x), x))
    half = torch.empty(4, 16, device=device)
    for name in GATED:
        extra = (0.0,) if name == "fatrelu_and_mul" else ()
        torch.library.opcheck(getattr(kernel.ops, name).default, (half, x, *extra))
