# SPDX-License-Identifier: Apache-2.0
"""Calls the emulated CUDA kernels of flash-attention (flash_attention_emulation.cpp)."""

import ctypes
import fcntl
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "kernels-community"
CUDA_INCLUDE = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"
# As nvcc does, products are joined with the sums around them: what is wrong then must show here.
FUSES = "fma" in Path("/proc/cpuinfo").read_text().split()
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}

Int = ctypes.c_int64
Pointer = ctypes.c_void_p


class Strides(ctypes.Structure):
    """Strides of params.h."""

    _fields_ = (("batch", Int), ("row", Int), ("head", Int))


class Rotary(ctypes.Structure):
    """Rotary of params.h."""

    _fields_ = (
        *((name, Pointer) for name in ("cos", "sin")),
        ("dtype", ctypes.c_int32),
        ("positions", Int),
        ("row_stride", Int),
        ("pairs", Int),
        ("first_positions", Pointer),
        ("is_interleaved", ctypes.c_bool),
        ("advances", ctypes.c_bool),
    )


class Lengths(ctypes.Structure):
    """Lengths of params.h."""

    _fields_ = (
        ("q", Int),
        ("k", Int),
        *((name, Pointer) for name in ("cu_q", "cu_k", "used_q", "used_k")),
        *((name, Pointer) for name in ("leftpad_k", "cache_batch", "block_table")),
        ("table_stride", Int),
        ("page_size", Int),
    )


class Params(ctypes.Structure):
    """Params of params.h."""

    _fields_ = (
        ("dtype", ctypes.c_int32),
        *((name, Pointer) for name in ("q", "k", "v", "out", "lse")),
        *((f"{name}_strides", Strides) for name in ("q", "k", "v", "out")),
        *((name, Int) for name in ("lse_batch_stride", "lse_head_stride")),
        *((name, Int) for name in ("batch", "heads_q", "heads_k", "head_dim", "head_dim_v")),
        *((name, Int) for name in ("total_q", "total_k")),
        ("lengths", Lengths),
        ("rotary", Rotary),
        ("alibi_slopes", Pointer),
        ("alibi_batch_stride", Int),
        ("sinks", Pointer),
        *((name, ctypes.c_double) for name in ("scale", "softcap")),
        *((name, Int) for name in ("window_left", "window_right", "num_splits")),
    )


class AppendParams(ctypes.Structure):
    """AppendParams of params.h."""

    _fields_ = (
        ("dtype", ctypes.c_int32),
        *((name, Pointer) for name in ("k_cache", "v_cache", "k", "v")),
        *((f"{name}_strides", Strides) for name in ("k_cache", "v_cache", "k", "v")),
        *((name, Int) for name in ("batch", "heads_k", "head_dim", "head_dim_v", "new_rows")),
        *((name, Int) for name in ("total_new_rows", "cache_entries", "cache_rows")),
        *((name, Pointer) for name in ("cu_k_new", "cache_seqlens", "cache_batch", "block_table")),
        *((name, Int) for name in ("table_stride", "page_size")),
        ("rotary", Rotary),
    )


def address(tensor: torch.Tensor | None) -> int | None:
    """Where a tensor's elements are."""
    return None if tensor is None else tensor.data_ptr()


def strides(tensor: torch.Tensor) -> Strides:
    """[batch, row, head, dim], or varlen [row, head, dim]."""
    steps = tensor.stride()
    return Strides(*steps[:3]) if tensor.dim() == 4 else Strides(0, *steps[:2])


@dataclass(frozen=True)
class Options:
    """What a call may have beyond q, k and v; tensors as the op takes them."""

    causal: bool = False
    window: tuple[int, int] = (-1, -1)
    scale: float | None = None
    softcap: float = 0.0
    splits: int = 1
    processors: int = 132
    capability: int = 80
    encodes_tensor_maps: bool = True
    alibi: torch.Tensor | None = None
    sinks: torch.Tensor | None = None
    cu_q: torch.Tensor | None = None
    cu_k: torch.Tensor | None = None
    used_q: torch.Tensor | None = None
    used_k: torch.Tensor | None = None
    leftpad: torch.Tensor | None = None
    cache_batch: torch.Tensor | None = None
    block_table: torch.Tensor | None = None
    cos: torch.Tensor | None = None
    sin: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    interleaved: bool = False
    advances: bool = True
    seed: int = 0

    @property
    def sides(self) -> tuple[int, int]:
        """The window with `causal` in it."""
        return self.window[0], 0 if self.causal else self.window[1]


def rotary(options: Options) -> Rotary:
    """The rotation of a call."""
    if options.cos is None:
        return Rotary()
    return Rotary(
        *(address(options.cos), address(options.sin), DTYPES[options.cos.dtype]),
        *options.cos.shape[:1],
        *(options.cos.stride(0), options.cos.shape[1], address(options.positions)),
        *(options.interleaved, options.advances),
    )


def results(
    q: torch.Tensor, v: torch.Tensor, options: Options
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and log-sum-exp of a call, not written yet."""
    out = torch.full((*q.shape[:-1], v.shape[-1]), float("nan"), dtype=q.dtype)
    shape = q.shape[-2::-1] if options.cu_q is not None else (len(q), *q.shape[-2:-4:-1])
    return out, torch.full(shape, float("nan"))


def call_params(tensors: tuple[torch.Tensor, ...], options: Options) -> Params:
    """A call on q, k, v, out and lse."""
    q, k, v, out, lse = tensors
    is_varlen = options.cu_q is not None
    heads, heads_k = q.shape[-2], k.shape[-2]
    rows = q.shape[-3]
    batch = len(options.cu_q) - 1 if options.cu_q is not None else q.shape[0]
    table = options.block_table
    is_varlen_k = options.cu_k is not None and table is None
    capacity = 0 if is_varlen_k else k.shape[-3]
    if table is not None:
        capacity = table.shape[1] * k.shape[1]
    lengths = Lengths(
        *(0 if is_varlen else rows, capacity),
        *(address(options.cu_q), address(options.cu_k)),
        *(address(options.used_q), address(options.used_k), address(options.leftpad)),
        *(address(options.cache_batch), address(table)),
        *((0, 0) if table is None else (table.stride(0), k.shape[1])),
    )
    return Params(
        *(DTYPES[q.dtype], address(q), address(k), address(v), address(out), address(lse)),
        *(strides(q), strides(k), strides(v), strides(out)),
        *(0 if is_varlen else lse.stride(0), lse.stride(-2)),
        *(batch, heads, heads_k, q.shape[-1], v.shape[-1]),
        *(rows if is_varlen else 0, k.shape[0] if is_varlen_k else 0),
        *(lengths, rotary(options), address(options.alibi)),
        options.alibi.stride(0) if options.alibi is not None and options.alibi.dim() == 2 else 0,
        address(options.sinks),
        q.shape[-1] ** -0.5 if options.scale is None else options.scale,
        *(options.softcap, *options.sides, options.splits),
    )


def compiled(folder: Path, name: str, command: list[str | Path]) -> ctypes.CDLL:
    """The library `name` in `folder`, compiled by whoever of several processes comes first."""
    library = folder / f"{name}.so"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.is_file():
            target = library.with_suffix(".new")
            include = ["-I", PACKAGES / "flash-attention", "-I", PACKAGES]
            flags = ["-std=c++17", "-fPIC", "-shared", *include]
            subprocess.run(["c++", *flags, *command, "-o", target], check=True)
            target.rename(library)
    return ctypes.CDLL(str(library))


class Emulator:
    """The compiled emulation."""

    def __init__(self, folder: Path) -> None:
        source = Path(__file__).with_name("flash_attention_emulation.cpp")
        flags = ["-O1", "-fno-strict-aliasing", "-isystem", CUDA_INCLUDE]
        if FUSES:
            flags += ["-mfma", "-ffp-contract=fast", "-fexpensive-optimizations"]
        self._library = compiled(folder, "flash_attention_emulation", [*flags, source])
        self._library.emulate_forward.restype = Int
        self._library.emulate_why_not_sm90.restype = ctypes.c_char_p
        self.why_not_sm90: str | None = None

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        options: Options,
        out: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Output, log-sum-exp, and the splits that were used. Sets why_not_sm90: None where the
        sm_90a kernel took the call.
        """
        fresh, lse = results(q, v, options)
        out = fresh if out is None else out
        call = call_params((q, k, v, out, lse), options)
        self.why_not_sm90 = self._reason(call, options)
        used = self._library.emulate_forward(
            ctypes.byref(call), *self._device(options), ctypes.c_uint32(options.seed)
        )
        return out, lse, used

    def reason(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: Options
    ) -> str | None:
        """What why_not_sm90 is after such a call, without the call."""
        lse = torch.empty(len(q), *q.shape[-2:-4:-1])
        return self._reason(call_params((q, k, v, q, lse), options), options)

    def _reason(self, call: Params, options: Options) -> str | None:
        reason = self._library.emulate_why_not_sm90(ctypes.byref(call), *self._device(options))
        return None if reason is None else str(reason.decode())

    @staticmethod
    def _device(options: Options) -> tuple[object, ...]:
        return (
            ctypes.c_int(options.capability),
            Int(options.processors),
            ctypes.c_bool(options.encodes_tensor_maps),
        )

    def append(
        self,
        cache: tuple[torch.Tensor, torch.Tensor],
        new: tuple[torch.Tensor, torch.Tensor],
        seqlens: torch.Tensor,
        options: Options,
    ) -> None:
        """Writes new rows into the cache; `options` gives cu_k, table, batch indices, rotation."""
        k_cache, v_cache = cache
        k, v = new
        table = options.block_table
        rows = k_cache.shape[1] if table is None else table.shape[1] * k_cache.shape[1]
        params = AppendParams(
            *(DTYPES[k.dtype], address(k_cache), address(v_cache), address(k), address(v)),
            *(strides(k_cache), strides(v_cache), strides(k), strides(v)),
            *(len(seqlens), k.shape[-2], k.shape[-1], v.shape[-1]),
            *((k.shape[1], 0) if options.cu_k is None else (0, k.shape[0])),
            *(k_cache.shape[0], rows, address(options.cu_k), address(seqlens)),
            address(options.cache_batch),
            *(address(table), *((0, 0) if table is None else (table.stride(0), k_cache.shape[1]))),
            rotary(options),
        )
        self._library.emulate_append(ctypes.byref(params))
