# SPDX-License-Identifier: Apache-2.0
"""What users of the package rely on: agreement with torch's attention, prompts packed or not, and
decoding as if all keys had been there at once."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

# Relative error in the 2-norm, against attention in fp64.
BOUNDS = {torch.float32: 2e-6, torch.float16: 4e-4, torch.bfloat16: 3e-3}


def exact(q, k, v, is_causal):
    q, k, v = (x.double().transpose(-3, -2) for x in (q, k, v))
    rows, keys = q.shape[-2], k.shape[-2]
    visible = torch.ones(rows, keys, dtype=torch.bool, device=q.device)
    visible = visible.tril(keys - rows) if is_causal else visible
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True)
    return out.transpose(-3, -2)


def relative_error(result, expected):
    return (result.double() - expected).norm() / expected.norm()


def drawn(shape, dtype, device):
    if device == "cuda" and dtype == torch.float32:
        pytest.skip("the CUDA kernels take 16-bit tensors")
    return torch.randn(shape, device=device).to(dtype)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("width", [40, 64, 128, 256])
def test_a_prompt_agrees_with_attention_in_fp64(kernel, device, width, is_causal, dtype):
    torch.manual_seed(0)
    q = drawn((2, 113, 6, width), dtype, device)
    k, v = drawn((2, 2, 203, 2, width), dtype, device)
    out = kernel.flash_attn_func(q, k, v, causal=is_causal)
    assert relative_error(out, exact(q, k, v, is_causal)) < BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
def test_packed_prompts_agree_with_each_alone(kernel, device, dtype):
    torch.manual_seed(0)
    lengths = (5, 130, 1, 64)
    q, k, v = drawn((3, sum(lengths), 4, 64), dtype, device)
    offsets = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    rows = (offsets, offsets, max(lengths), max(lengths))
    packed = kernel.flash_attn_varlen_func(q, k, v, *rows, causal=True)
    for out, *tensors in zip(*(x.split(lengths) for x in (packed, q, k, v)), strict=True):
        alone = exact(*tensors, is_causal=True)
        assert relative_error(out, alone) < BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
def test_tokens_decoded_one_by_one_agree_with_the_whole_prompt(kernel, device, dtype):
    torch.manual_seed(0)
    tokens, known = 40, 33
    q = drawn((2, tokens, 4, 64), dtype, device)
    k, v = drawn((2, 2, tokens, 2, 64), dtype, device)
    cache = [torch.zeros(2, 48, 2, 64, device=device, dtype=dtype) for _ in range(2)]
    for rows, tensor in zip(cache, (k, v), strict=True):
        rows[:, :known] = tensor[:, :known]
    expected = exact(q, k, v, is_causal=True)
    for i in range(known, tokens):
        at = slice(i, i + 1)
        lengths = torch.full((2,), i, device=device, dtype=torch.int32)
        out = kernel.flash_attn_with_kvcache(
            q[:, at], *cache, k[:, at], v[:, at], cache_seqlens=lengths, causal=True
        )
        assert relative_error(out, expected[:, at]) < 2 * BOUNDS[dtype]
    assert torch.equal(cache[0][:, :tokens], k)
    assert torch.equal(cache[1][:, :tokens], v)


def test_what_it_cannot_do_raises(kernel, device):
    q = torch.randn(1, 4, 2, 64, device=device, dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match="dropout_p"):
        kernel.flash_attn_func(q, q, q, dropout_p=0.1)
    with pytest.raises(RuntimeError, match="heads"):
        kernel.flash_attn_func(q, q[:, :, :1].repeat(1, 1, 3, 1), q)
