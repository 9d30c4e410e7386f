# SPDX-License-Identifier: Apache-2.0
"""What users of the package rely on: agreement with torch's layer norm in fp64."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

# Relative error in the 2-norm.
BOUNDS = {torch.float32: 2e-7, torch.float16: 2.4e-4, torch.bfloat16: 1.9e-3}


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("width", [384, 1023, 4096, 65537])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_rows_agree_with_fp64(kernel, device, mean, width, dtype):
    torch.manual_seed(0)
    x = (torch.randn(64, width, device=device) + mean).to(dtype)
    weight, bias = torch.randn(2, width, device=device).to(dtype)
    out = torch.empty_like(x)
    assert kernel.layer_norm(out, x, weight, bias, 1e-5) is out
    expected = F.layer_norm(x.double(), (width,), weight.double(), bias.double(), 1e-5)
    assert (out.double() - expected).norm() / expected.norm() <= BOUNDS[dtype]


def test_the_layer_replaces_torchs(kernel, device):
    torch.manual_seed(0)
    module = torch.nn.LayerNorm(384, device=device)
    replacement = kernel.layers.LayerNorm()
    replacement.weight, replacement.bias, replacement.eps = module.weight, module.bias, module.eps
    x = torch.randn(4, 7, 384, device=device)
    with torch.no_grad():
        torch.testing.assert_close(replacement(x), module(x))


def test_the_op_passes_opcheck(kernel, device):
    x = torch.randn(4, 32, device=device)
    weight = torch.randn(32, device=device)
    arguments = (torch.empty_like(x), x, weight, None, 1e-5)
    torch.library.opcheck(kernel.ops.layer_norm.default, arguments)
