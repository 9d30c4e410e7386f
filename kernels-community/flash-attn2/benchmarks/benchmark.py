# SPDX-License-Identifier: Apache-2.0
"""Run with `kernels benchmark <repo>`: prompts of several lengths, and a token against a cache."""

import torch
import torch.nn.functional as F  # noqa: N812
from kernels.benchmark import Benchmark

TOKENS, WIDTH, HEAD_DIM = 4096, 1024, 128
CACHE_ROWS, GROUP = 8192, 4


def attention(q, k, v, is_causal=False):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal, enable_gqa=True)
    return out.transpose(1, 2)


class PromptBenchmark(Benchmark):
    seed = 20
    length = 512

    def setup(self):
        # CUDA has 16-bit kernels.
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        shape = (3, TOKENS // self.length, self.length, WIDTH // HEAD_DIM, HEAD_DIM)
        self.q, self.k, self.v = torch.randn(shape, device=self.device, dtype=dtype)

    def benchmark_prompt(self):
        self.out = self.kernel.flash_attn_func(self.q, self.k, self.v)

    def verify_prompt(self):
        return attention(self.q, self.k, self.v)

    def benchmark_causal_prompt(self):
        self.out = self.kernel.flash_attn_func(self.q, self.k, self.v, causal=True)

    def verify_causal_prompt(self):
        return attention(self.q, self.k, self.v, is_causal=True)


class LongPromptBenchmark(PromptBenchmark):
    length = 2048


class CacheBenchmark(Benchmark):
    seed = 20

    def setup(self):
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        heads = WIDTH // HEAD_DIM
        self.k, self.v = torch.randn(
            2, 1, CACHE_ROWS, heads, HEAD_DIM, device=self.device, dtype=dtype
        )
        self.q = torch.randn(1, 1, GROUP * heads, HEAD_DIM, device=self.device, dtype=dtype)

    def benchmark_token(self):
        self.out = self.kernel.flash_attn_with_kvcache(self.q, self.k, self.v)

    def verify_token(self):
        return attention(self.q, self.k, self.v)
