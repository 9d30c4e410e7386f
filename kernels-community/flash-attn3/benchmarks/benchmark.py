# SPDX-License-Identifier: Apache-2.0
"""Run with `kernels benchmark <repo>`: prompts of mixed lengths behind each other, and a sliding
window."""

import torch
import torch.nn.functional as F  # noqa: N812
from kernels.benchmark import Benchmark

LENGTHS = (1, 700, 64, 2048, 333, 950)
HEADS, HEAD_DIM = 8, 128
TOKENS, WINDOW = 2048, 256


def attention(q, k, v, **flags):
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, **flags).transpose(-3, -2)


class PackedBenchmark(Benchmark):
    seed = 20

    def setup(self):
        # CUDA has 16-bit kernels.
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        shape = (3, sum(LENGTHS), HEADS, HEAD_DIM)
        self.q, self.k, self.v = torch.randn(shape, device=self.device, dtype=dtype)
        ends = torch.tensor([0, *LENGTHS]).cumsum(0)
        self.offsets = ends.to(device=self.device, dtype=torch.int32)

    def benchmark_packed(self):
        rows = (self.offsets, self.offsets, max(LENGTHS), max(LENGTHS))
        self.out = self.kernel.flash_attn_varlen_func(self.q, self.k, self.v, *rows, causal=True)

    def verify_packed(self):
        sequences = zip(*(x.split(LENGTHS) for x in (self.q, self.k, self.v)), strict=True)
        return torch.cat([attention(*each, is_causal=True) for each in sequences])


class WindowBenchmark(Benchmark):
    seed = 20

    def setup(self):
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        shape = (3, 2, TOKENS, HEADS, HEAD_DIM)
        self.q, self.k, self.v = torch.randn(shape, device=self.device, dtype=dtype)
        ones = torch.ones(TOKENS, TOKENS, dtype=torch.bool, device=self.device)
        self.mask = ones.tril() & ones.triu(-WINDOW)

    def benchmark_window(self):
        flags = {"causal": True, "window_size": (WINDOW, 0)}
        self.out = self.kernel.flash_attn_func(self.q, self.k, self.v, **flags)

    def verify_window(self):
        return attention(self.q, self.k, self.v, attn_mask=self.mask)
