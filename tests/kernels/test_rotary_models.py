# SPDX-License-Identifier: Apache-2.0
"""rotary in the place of what transformers' models compute themselves."""

import importlib
from collections.abc import Callable
from types import ModuleType

import pytest
import rotary_reference as reference
import torch
from precision import BF16, FP16, FP32

HALVES = pytest.mark.parametrize("dtype", [FP32, BF16, FP16], ids=str)


@pytest.fixture(scope="module")
def rotary(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("rotary")


def of_model(name: str) -> ModuleType:
    return importlib.import_module(f"transformers.models.{name}.modeling_{name}")


def heads(dtype: torch.dtype, width: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """q and k as attention has them: transposed views with head counts of their own."""
    q = torch.randn(2, 11, 8, width).to(dtype).transpose(1, 2)
    return q, torch.randn(2, 11, 2, width).to(dtype).transpose(1, 2)


def assert_rounded(
    results: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...], steps: int
) -> None:
    """Equal in fp32, else up to `steps` roundings of values of some units to the results' dtype."""
    for result, value in zip(results, expected, strict=True):
        assert result.shape == value.shape
        if result.dtype == FP32 or steps == 0:
            assert torch.equal(result, value.to(result.dtype))
            continue
        bound = steps * torch.finfo(result.dtype).eps
        torch.testing.assert_close(result.double(), value.double(), atol=4 * bound, rtol=bound)


@HALVES
@pytest.mark.parametrize("model", ["llama", "qwen3"])
@pytest.mark.parametrize("rows", [1, 2])
def test_llama_like(rotary: ModuleType, model: str, dtype: torch.dtype, rows: int) -> None:
    q, k = heads(dtype)
    cos, sin = reference.tables(rows, 11, 64, dtype=dtype)
    eager = of_model(model).apply_rotary_pos_emb
    results = rotary.apply_rotary_transformers(q, k, cos, sin)
    assert_rounded(results, eager(q, k, cos, sin), steps=2)
    assert_rounded(results, eager(q.float(), k.float(), cos.float(), sin.float()), steps=0)
    assert [x.stride() for x in results] == [q.stride(), k.stride()], "as eager keeps them"
    bshd = rotary.apply_rotary_transformers(
        q.transpose(1, 2), k.transpose(1, 2), cos, sin, unsqueeze_dim=2
    )
    assert torch.equal(bshd[0].transpose(1, 2), results[0])
    assert torch.equal(bshd[1].transpose(1, 2), results[1])


@HALVES
def test_olmo_with_fp32_tables(rotary: ModuleType, dtype: torch.dtype) -> None:
    q, k = heads(dtype)
    cos, sin = reference.tables(2, 11, 64)
    results = rotary.apply_rotary_transformers(q, k, cos, sin)
    assert_rounded(results, of_model("olmo").apply_rotary_pos_emb(q, k, cos, sin), steps=0)
    assert results[0].dtype == dtype


@HALVES
def test_gpt_oss_with_half_tables(rotary: ModuleType, dtype: torch.dtype) -> None:
    q, k = heads(dtype)
    cos, sin = reference.tables(2, 11, 32, dtype=dtype, halves=1)
    results = rotary.apply_rotary_transformers(q, k, cos, sin)
    assert_rounded(results, of_model("gpt_oss").apply_rotary_pos_emb(q, k, cos, sin), steps=2)


@HALVES
@pytest.mark.parametrize("width", [64, 32])
def test_glm_with_interleaved_pairs_of_a_part(
    rotary: ModuleType, dtype: torch.dtype, width: int
) -> None:
    q, k = heads(dtype)
    cos, sin = reference.tables(2, 11, width, dtype=dtype)
    eager = of_model("glm").apply_rotary_pos_emb(q.float(), k.float(), cos.float(), sin.float())
    results = rotary.layers.rotary_embedding(q, k, cos, sin, rotary_dim=width, interleaved=True)
    assert_rounded(results, eager, steps=0)


@HALVES
def test_cohere_whose_tables_repeat_every_column(rotary: ModuleType, dtype: torch.dtype) -> None:
    q, k = heads(dtype)
    cos, sin = (t.repeat_interleave(2, -1) for t in reference.tables(2, 11, 32, halves=1))
    eager = of_model("cohere").apply_rotary_pos_emb(q, k, cos, sin)
    results = rotary.layers.rotary_embedding(q, k, cos[..., ::2], sin[..., ::2], interleaved=True)
    assert_rounded(results, eager, steps=0)


@HALVES
def test_nanochat_rotates_the_other_way(rotary: ModuleType, dtype: torch.dtype) -> None:
    q, k = heads(dtype)
    cos, sin = reference.tables(2, 11, 64, dtype=dtype)
    eager = of_model("nanochat").apply_rotary_pos_emb(
        q.float(), k.float(), cos.float(), sin.float()
    )
    results = rotary.layers.rotary_embedding(q, k, cos, sin, conj=True)
    assert_rounded(results, eager, steps=0)
    wrong, _ = rotary.apply_rotary_transformers(q, k, cos, sin)
    assert not torch.equal(wrong, results[0])


MODELS = {
    "llama": ("LlamaConfig", "LlamaForCausalLM"),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
    "olmo": ("OlmoConfig", "OlmoForCausalLM"),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_tiny_model_keeps_its_logits_and_gradients(
    rotary: ModuleType, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    config, network = (getattr(transformers, name) for name in MODELS[model])
    net = network(
        config(
            vocab_size=64,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
        )
    )
    tokens = torch.randint(0, 64, (2, 13))
    parameter = next(net.parameters())

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        logits = net(tokens).logits
        return logits, torch.autograd.grad(logits.square().mean(), parameter)[0]

    eager = step()
    calls = []
    layer = rotary.layers.apply_rotary_transformers()

    def kernelized(*arguments: torch.Tensor, **options: int) -> tuple[torch.Tensor, ...]:
        calls.append(1)
        return layer(*arguments, **options)

    monkeypatch.setattr(of_model(model), "apply_rotary_pos_emb", kernelized)
    ours = step()
    assert len(calls) == 2
    assert torch.equal(ours[0], eager[0])
    torch.testing.assert_close(ours[1], eager[1], atol=1e-7, rtol=1e-5)
