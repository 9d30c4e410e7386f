# SPDX-License-Identifier: Apache-2.0
"""Run with `kernels benchmark <repo>`: relu on a transformer's MLP activations."""

import torch
from kernels.benchmark import Benchmark

TOKENS, WIDTH = 4096, 4096


class ReluBenchmark(Benchmark):
    seed = 20
    dtype = torch.float32

    def setup(self):
        self.x = torch.randn(TOKENS, WIDTH, device=self.device).to(self.dtype)
        self.out = torch.empty_like(self.x)

    def benchmark_relu(self):
        self.kernel.relu(self.x, self.out)

    def verify_relu(self):
        return torch.relu(self.x)


class HalfReluBenchmark(ReluBenchmark):
    dtype = torch.bfloat16
