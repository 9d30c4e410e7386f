# SPDX-License-Identifier: Apache-2.0
"""Run with `kernels benchmark <repo>`: RMS norm on a transformer's hidden states."""

import torch
import torch.nn.functional as F  # noqa: N812
from kernels.benchmark import Benchmark

ELEMENTS = 1 << 24


class RMSNormBenchmark(Benchmark):
    seed = 20
    width = 4096

    def setup(self):
        self.x = torch.randn(ELEMENTS // self.width, self.width, device=self.device)
        self.weight = torch.randn(self.width, device=self.device)
        self.out = torch.empty_like(self.x)

    def benchmark_rms_norm(self):
        self.kernel.rms_norm(self.out, self.x, self.weight, 1e-6)

    def verify_rms_norm(self):
        return F.rms_norm(self.x, (self.width,), self.weight, 1e-6)


class NarrowRMSNormBenchmark(RMSNormBenchmark):
    width = 128


class WideRMSNormBenchmark(RMSNormBenchmark):
    width = 32768
