# SPDX-License-Identifier: Apache-2.0
"""What users of the package rely on: a sink takes part in the softmax, and in nothing else."""

import pytest
import torch

# Relative error in the 2-norm, against attention in fp64.
BOUNDS = {torch.float32: 2e-6, torch.float16: 4e-4, torch.bfloat16: 3e-3}


def exact(q, k, v, sinks):
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    scores = q @ k.mT * q.shape[-1] ** -0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    scores = scores.masked_fill(later, -torch.inf)
    column = sinks.double().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
    return (torch.cat([scores, column], -1).softmax(-1)[..., :-1] @ v).transpose(1, 2)


def drawn(shape, dtype, device):
    if device == "cuda" and dtype == torch.float32:
        pytest.skip("the CUDA kernels take 16-bit tensors")
    return torch.randn(shape, device=device).to(dtype)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("level", [-20.0, 0.0, 3.0])
def test_a_sink_is_one_more_logit_of_its_head(kernel, device, level, dtype):
    torch.manual_seed(0)
    q, k, v = drawn((3, 2, 130, 4, 64), dtype, device)
    sinks = drawn((4,), dtype, device) + level
    out = kernel.flash_attn_func(q, k, v, causal=True, s_aux=sinks)
    expected = exact(q, k, v, sinks)
    assert (out.double() - expected).norm() / expected.norm() < BOUNDS[dtype]


def test_no_sink_is_attention_without_one(kernel, device):
    torch.manual_seed(0)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    q, k, v = torch.randn(3, 2, 70, 4, 64, device=device).to(dtype)
    nothing = torch.full((4,), -torch.inf, device=device, dtype=dtype)
    plain = kernel.flash_attn_func(q, k, v)
    assert torch.equal(kernel.flash_attn_func(q, k, v, s_aux=nothing), plain)
