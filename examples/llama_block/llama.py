# SPDX-License-Identifier: Apache-2.0
"""A decoder of Llama's shape in torch.nn; llama.h is the same model in C++.

Names are those of transformers, and so are the marks by which kernels are found.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kernels import use_kernel_forward_from_hub, use_kernelized_func
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of a small model with grouped queries."""

    vocab_size: int = 97
    hidden_size: int = 64
    intermediate_size: int = 160
    num_hidden_layers: int = 1
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0

    @property
    def head_dim(self) -> int:
        """Size of a head."""
        return self.hidden_size // self.num_attention_heads


@use_kernel_forward_from_hub("RMSNorm")
class LlamaRMSNorm(nn.Module):
    """weight * (x / sqrt(mean(x^2) + eps)), the norm in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.variance_epsilon = eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        wide = hidden_states.float()
        variance = wide.pow(2).mean(-1, keepdim=True)
        normed = wide * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * normed.to(hidden_states.dtype)


@use_kernel_forward_from_hub("SiLU")
class SiLUActivation(nn.Module):
    """x / (1 + exp(-x))"""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(input)


class LlamaMLP(nn.Module):
    """down(silu(gate(x)) * up(x))"""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.act_fn = SiLUActivation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    """[a, b] -> [-b, a] over halves of the last dim."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


@use_kernel_forward_from_hub("rotary_pos_emb")
def apply_rotary_pos_emb(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    unsqueeze_dim: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary positions over halves: q, k [batch, heads, tokens, d], cos, sin [batch, tokens, d]."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin


@use_kernelized_func(apply_rotary_pos_emb)
class LlamaAttention(nn.Module):
    """Causal, grouped-query, eager."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        kv = config.num_key_value_heads * config.head_dim
        self.config = config
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def split_heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], -1, self.config.head_dim).transpose(1, 2)

    @property
    def groups(self) -> int:
        return self.config.num_attention_heads // self.config.num_key_value_heads

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        q = self.split_heads(self.q_proj(x))
        k = self.split_heads(self.k_proj(x))
        v = self.split_heads(self.v_proj(x))
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
        batch, heads, tokens, d = k.shape
        wide = (batch, heads, self.groups, tokens, d)
        k = k[:, :, None].expand(wide).reshape(batch, -1, tokens, d)
        v = v[:, :, None].expand(wide).reshape(batch, -1, tokens, d)
        mask = torch.full((tokens, tokens), -torch.inf, dtype=x.dtype).triu(1)
        scores = torch.matmul(q, k.transpose(2, 3)) * d**-0.5 + mask
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(x.dtype)
        return self.o_proj(torch.matmul(weights, v).transpose(1, 2).reshape(x.shape))


class LlamaDecoderLayer(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x))"""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaModel(nn.Module):
    """Embedding, layers and the last norm."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            LlamaDecoderLayer(config) for _ in range(config.num_hidden_layers)
        )
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed_tokens(ids)
        # Angles in fp32 whatever the model's dtype, as in transformers.
        dim = self.config.head_dim
        inverse = 1.0 / self.config.rope_theta ** (torch.arange(0, dim, 2).float() / dim)
        angles = torch.arange(ids.shape[1]).float()[:, None] * inverse
        both = torch.cat((angles, angles), dim=-1)[None]
        cos, sin = both.cos().to(x.dtype), both.sin().to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)


class LlamaForCausalLM(nn.Module):
    """ids int64 [batch, tokens] -> logits [batch, tokens, vocab]"""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.model = LlamaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.model(ids))
