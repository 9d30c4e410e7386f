# SPDX-License-Identifier: Apache-2.0
"""What users of the package rely on: the values, gradients and layer of torch's relu."""

import pytest
import torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 512), (83, 13824), (2048, 1023), ()])
def test_relu_equals_torch(kernel, device, shape, dtype):
    torch.manual_seed(0)
    x = torch.randn(shape, device=device).to(dtype)
    out = torch.empty_like(x)
    assert kernel.relu(x, out) is out
    assert torch.equal(out, torch.relu(x))
    assert torch.equal(kernel.relu(x), out)
    assert torch.equal(kernel.layers.ReLU()(x), out)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_equals_torch(kernel, device, dtype):
    torch.manual_seed(0)
    x = torch.randn(83, 1024, device=device).to(dtype).requires_grad_()
    grad = torch.randn(83, 1024, device=device).to(dtype)
    (result,) = torch.autograd.grad(kernel.relu(x), x, grad)
    (expected,) = torch.autograd.grad(torch.relu(x), x, grad)
    assert torch.equal(result, expected)


def test_ops_pass_opcheck(kernel, device):
    x = torch.randn(4, 32, device=device)
    torch.library.opcheck(kernel.ops.relu.default, (torch.empty_like(x), x))
    torch.library.opcheck(kernel.ops.relu_backward.default, (torch.empty_like(x), x, x))
