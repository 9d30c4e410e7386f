# SPDX-License-Identifier: Apache-2.0
"""Run with `kernels benchmark <repo>`: attention with a sink, as in gpt-oss."""

import torch
from kernels.benchmark import Benchmark

BATCH, TOKENS, HEADS, KEY_HEADS, HEAD_DIM = 1, 1024, 16, 2, 64


class SinkBenchmark(Benchmark):
    seed = 20

    def setup(self):
        # CUDA has 16-bit kernels.
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        self.q = torch.randn(BATCH, TOKENS, HEADS, HEAD_DIM, device=self.device, dtype=dtype)
        self.k, self.v = torch.randn(
            2, BATCH, TOKENS, KEY_HEADS, HEAD_DIM, device=self.device, dtype=dtype
        )
        self.sinks = torch.randn(HEADS, device=self.device, dtype=dtype)

    def benchmark_sink(self):
        flags = {"causal": True, "s_aux": self.sinks}
        self.out = self.kernel.flash_attn_func(self.q, self.k, self.v, **flags)

    def verify_sink(self):
        """As eager attention does it: a column of logits that takes part in the softmax only."""
        group = HEADS // KEY_HEADS
        q = self.q.transpose(1, 2)
        k, v = (x.repeat_interleave(group, 2).transpose(1, 2) for x in (self.k, self.v))
        scores = q @ k.mT * HEAD_DIM**-0.5
        later = torch.ones(TOKENS, TOKENS, dtype=torch.bool, device=self.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
        column = self.sinks.view(1, -1, 1, 1).expand(BATCH, -1, TOKENS, 1)
        weights = torch.cat([scores, column], -1).softmax(-1)[..., :-1]
        return (weights @ v).transpose(1, 2)
