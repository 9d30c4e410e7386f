# SPDX-License-Identifier: Apache-2.0
"""Run with `kernels benchmark <repo>`: queries and keys of a Llama layer."""

import torch
from kernels.benchmark import Benchmark

TOKENS, Q_HEADS, K_HEADS, WIDTH = 4096, 32, 8, 128


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos.unsqueeze(1) + torch.cat((-second, first), dim=-1) * sin.unsqueeze(1)


class RotaryBenchmark(Benchmark):
    seed = 20

    def setup(self):
        self.q = torch.randn(1, Q_HEADS, TOKENS, WIDTH, device=self.device)
        self.k = torch.randn(1, K_HEADS, TOKENS, WIDTH, device=self.device)
        angles = torch.randn(1, TOKENS, WIDTH // 2, device=self.device)
        angles = torch.cat([angles, angles], dim=-1)
        self.cos, self.sin = angles.cos(), angles.sin()
        self.out = torch.empty_like(self.q)

    def benchmark_apply_rotary_transformers(self):
        arguments = (self.q, self.k, self.cos, self.sin)
        self.out, _ = self.kernel.apply_rotary_transformers(*arguments)

    def verify_apply_rotary_transformers(self):
        return rotate(self.q, self.cos, self.sin)
