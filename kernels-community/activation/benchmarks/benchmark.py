# SPDX-License-Identifier: Apache-2.0
"""Run with `kernels benchmark <repo>`: each op on a transformer's MLP activations."""

import torch
import torch.nn.functional as F  # noqa: N812
from kernels.benchmark import Benchmark

TOKENS, WIDTH = 4096, 4096


class UnaryBenchmark(Benchmark):
    seed = 20

    def setup(self):
        self.x = torch.randn(TOKENS, WIDTH, device=self.device)
        self.out = torch.empty_like(self.x)

    def benchmark_silu(self):
        self.kernel.silu(self.out, self.x)

    def verify_silu(self):
        return F.silu(self.x)

    def benchmark_gelu(self):
        self.kernel.gelu(self.out, self.x)

    def verify_gelu(self):
        return F.gelu(self.x)

    def benchmark_gelu_tanh(self):
        self.kernel.gelu_tanh(self.out, self.x)

    def verify_gelu_tanh(self):
        return F.gelu(self.x, approximate="tanh")

    def benchmark_gelu_quick(self):
        self.kernel.gelu_quick(self.out, self.x)

    def verify_gelu_quick(self):
        return self.x * torch.sigmoid(1.702 * self.x)

    def benchmark_gelu_fast(self):
        self.kernel.gelu_fast(self.out, self.x)

    def verify_gelu_fast(self):
        x = self.x
        return 0.5 * x * (1.0 + torch.tanh(x * 0.79788456 * (1.0 + 0.044715 * x * x)))

    def benchmark_gelu_new(self):
        self.kernel.gelu_new(self.out, self.x)

    def verify_gelu_new(self):
        x = self.x
        return 0.5 * x * (1.0 + torch.tanh(0.79788456 * (x + 0.044715 * (x * x * x))))


class GatedBenchmark(Benchmark):
    seed = 20

    def setup(self):
        self.x = torch.randn(TOKENS, 2 * WIDTH, device=self.device)
        self.out = torch.empty(TOKENS, WIDTH, device=self.device)

    def halves(self):
        return self.x[:, :WIDTH], self.x[:, WIDTH:]

    def benchmark_silu_and_mul(self):
        self.kernel.silu_and_mul(self.out, self.x)

    def verify_silu_and_mul(self):
        x, y = self.halves()
        return F.silu(x) * y

    def benchmark_mul_and_silu(self):
        self.kernel.mul_and_silu(self.out, self.x)

    def verify_mul_and_silu(self):
        x, y = self.halves()
        return x * F.silu(y)

    def benchmark_gelu_and_mul(self):
        self.kernel.gelu_and_mul(self.out, self.x)

    def verify_gelu_and_mul(self):
        x, y = self.halves()
        return F.gelu(x) * y

    def benchmark_gelu_tanh_and_mul(self):
        self.kernel.gelu_tanh_and_mul(self.out, self.x)

    def verify_gelu_tanh_and_mul(self):
        x, y = self.halves()
        return F.gelu(x, approximate="tanh") * y

    def benchmark_fatrelu_and_mul(self):
        self.kernel.fatrelu_and_mul(self.out, self.x, 0.5)

    def verify_fatrelu_and_mul(self):
        x, y = self.halves()
        return F.threshold(x, 0.5, 0.0) * y
