# SPDX-License-Identifier: Apache-2.0
"""Run with `kernels benchmark <repo>`: layer norm on a transformer's hidden states."""

import torch
import torch.nn.functional as F  # noqa: N812
from kernels.benchmark import Benchmark

TOKENS = 4096


class LayerNormBenchmark(Benchmark):
    seed = 20
    width = 384

    def setup(self):
        self.x = torch.randn(TOKENS, self.width, device=self.device)
        self.weight, self.bias = torch.randn(2, self.width, device=self.device)
        self.out = torch.empty_like(self.x)

    def benchmark_layer_norm(self):
        self.kernel.layer_norm(self.out, self.x, self.weight, self.bias, 1e-5)

    def verify_layer_norm(self):
        return F.layer_norm(self.x, (self.width,), self.weight, self.bias, 1e-5)


class WideLayerNormBenchmark(LayerNormBenchmark):
    width = 8192
