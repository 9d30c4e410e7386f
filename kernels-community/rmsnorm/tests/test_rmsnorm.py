# SPDX-License-Identifier: Apache-2.0
"""What users of the package rely on: agreement with the formula in fp64, values and gradients."""

import pytest
import torch

# Relative error in the 2-norm: values, gradients.
BOUNDS = {
    torch.float32: (2e-7, 1e-6),
    torch.float16: (3.3e-4, 6e-4),
    torch.bfloat16: (2.6e-3, 4e-3),
}


def exact(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def relative_error(result, expected):
    return (result.double() - expected).norm() / expected.norm()


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("width", [64, 1023, 4096, 65537])
def test_rows_and_gradients_agree_with_fp64(kernel, device, width, dtype):
    torch.manual_seed(0)
    x, grad = torch.randn(2, 64, width, device=device).to(dtype)
    weight = torch.randn(width, device=device).to(dtype)
    output, rstd = kernel.apply_rms_norm(x, weight, 1e-6)
    wide, scale = x.double().requires_grad_(), weight.double().requires_grad_()
    expected = exact(wide, scale, 1e-6)
    assert relative_error(output, expected.detach()) <= BOUNDS[dtype][0]
    gradients = kernel.apply_rms_norm_backward(grad, x, weight, output, rstd, 1e-6)
    others = torch.autograd.grad(expected, (wide, scale), grad.double())
    for gradient, other in zip(gradients, others, strict=True):
        assert relative_error(gradient, other) <= BOUNDS[dtype][1]


def test_the_layer_replaces_a_models(kernel, device):
    torch.manual_seed(0)
    layer = kernel.layers.RMSNorm()
    layer.weight = torch.nn.Parameter(torch.randn(384, device=device))
    layer.variance_epsilon = 1e-6
    x = torch.randn(4, 7, 384, device=device, requires_grad=True)
    torch.testing.assert_close(layer(x), exact(x, layer.weight, 1e-6))
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is not None


def test_the_op_passes_opcheck(kernel, device):
    x = torch.randn(4, 32, device=device, requires_grad=True)
    weight = torch.randn(32, device=device, requires_grad=True)
    torch.library.opcheck(kernel.ops.apply_rms_norm.default, (x, weight, 1e-6))
