# SPDX-License-Identifier: Apache-2.0
"""What users of the package rely on: windows and softcap as documented, pages as a dense cache, and
partial results that combine."""

import pytest
import torch

# Relative error in the 2-norm, against attention in fp64.
BOUNDS = {torch.float32: 2e-6, torch.float16: 4e-4, torch.bfloat16: 3e-3}


def exact(q, k, v, left, softcap=0.0):
    """Causal attention that sees `left` keys before its own."""
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    ones = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device)
    seen = ones.tril() & ones.triu(-left)
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v).transpose(1, 2)


def relative_error(result, expected):
    return (result.double() - expected).norm() / expected.norm()


def drawn(shape, dtype, device):
    if device == "cuda" and dtype == torch.float32:
        pytest.skip("the CUDA kernels take 16-bit tensors")
    return torch.randn(shape, device=device).to(dtype)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("softcap", [0.0, 2.0])
@pytest.mark.parametrize("left", [0, 31, 500])
def test_a_window_with_softcap_agrees_with_fp64(kernel, device, left, softcap, dtype):
    torch.manual_seed(0)
    q, k, v = drawn((3, 2, 203, 4, 64), dtype, device)
    flags = {"causal": True, "window_size": (left, 0), "softcap": softcap}
    out = kernel.flash_attn_func(q, k, v, **flags)
    assert relative_error(out, exact(q, k, v, left, softcap)) < BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
def test_pages_in_any_order_have_the_bits_of_a_dense_cache(kernel, device, dtype):
    torch.manual_seed(0)
    page, pages = 16, 9
    q = drawn((2, 1, 4, 64), dtype, device)
    k, v = drawn((2, 2, page * pages, 2, 64), dtype, device)
    lengths = torch.tensor([137, 20], device=device, dtype=torch.int32)
    table = torch.randperm(2 * pages, device=device).int().view(2, pages)
    pools = []
    for tensor in (k, v):
        pool = torch.full((2 * pages, page, 2, 64), float("nan"), device=device, dtype=dtype)
        pool[table.flatten().long()] = tensor.reshape(-1, page, 2, 64)
        pools.append(pool)
    dense = kernel.flash_attn_with_kvcache(q, k, v, cache_seqlens=lengths, num_splits=1)
    paged = kernel.flash_attn_with_kvcache(
        q, *pools, cache_seqlens=lengths, page_table=table, num_splits=1
    )
    assert torch.equal(paged, dense)


def test_halves_of_the_keys_combine_to_the_whole(kernel, device):
    torch.manual_seed(0)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    q, k, v = torch.randn(3, 2, 64, 4, 64, device=device).to(dtype)
    halves = [
        kernel.flash_attn_func(q, k[:, part], v[:, part], return_attn_probs=True)
        for part in (slice(0, 40), slice(40, 64))
    ]
    outs, lses = (torch.stack(each) for each in zip(*halves, strict=True))
    combined, lse = kernel.flash_attn_combine(outs.float(), lses.mT.contiguous())
    whole, whole_lse = kernel.flash_attn_func(q, k, v, return_attn_probs=True)
    assert relative_error(combined, whole.double()) < 2 * BOUNDS[dtype]
    torch.testing.assert_close(lse, whole_lse.mT, rtol=1e-3, atol=1e-3)
