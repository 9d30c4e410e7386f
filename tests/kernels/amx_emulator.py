# SPDX-License-Identifier: Apache-2.0
"""Calls the AMX kernels of flash-attention on emulated tiles (amx_emulation.cpp)."""

import ctypes
from pathlib import Path
from typing import Any

import torch
from flash_attention_emulator import Options, call_params, compiled, results

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "kernels-community" / "flash-attention"
UNITS = (
    "flash_attention/schedule.cpp",
    "flash_attention_cpu/attention_avx512.cpp",
    "flash_attention_cpu/attention_cpu.cpp",
    "flash_attention_cpu/attention_fp64.cpp",
)
# Its own vector code is that of AVX512_BF16, which the CPU must have.
FLAGS = ("-O3", "-pthread", "-march=skylake-avx512", "-mavx512bf16")
# What the op calls an option, and what Options does.
NAMES = {
    "window_size": "window",
    "softmax_scale": "scale",
    "alibi_slopes": "alibi",
    "s_aux": "sinks",
    "num_splits": "splits",
    "cu_seqlens_q": "cu_q",
    "cu_seqlens_k": "cu_k",
    "seqused_k": "used_k",
}


class TileEmulator:
    """The compiled emulation."""

    def __init__(self, folder: Path) -> None:
        sources = [Path(__file__).with_name("amx_emulation.cpp"), *(SOURCES / u for u in UNITS)]
        self.library = compiled(folder, "amx_emulation", [*FLAGS, *sources])
        for name in ("configure", "release", "zero", "load", "store", "add_product"):
            getattr(self.library, f"tile_{name}").restype = ctypes.c_char_p
        self.library.emulate_attention.restype = ctypes.c_char_p

    def attend(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        on_threads: bool = False,
        **options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Output and log-sum-exp; the options of `attention_forward` by name."""
        named = Options(**{NAMES.get(name, name): value for name, value in options.items()})
        out, lse = results(q, v, named)
        call = call_params((q, k, v, out, lse), named)
        problem = self.library.emulate_attention(ctypes.byref(call), ctypes.c_bool(on_threads))
        assert problem is None, problem
        return out, lse
