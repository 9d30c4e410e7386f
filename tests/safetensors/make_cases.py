# SPDX-License-Identifier: Apache-2.0
"""Write safetensors files and the verdict of the reference library on each.

Output: `<name>.safetensors` files, `verdicts.tsv` (name, accept | reject by the reference), and
`dtypes.safetensors`, one tensor per dtype, saved by the reference library itself.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def packed(header: dict | bytes, data: bytes = b"\0" * 8, pad: bytes = b"") -> bytes:
    """File bytes of a header (object or raw text) and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += pad
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes: object) -> dict:
    """A well-formed entry with some fields changed; None removes one."""
    changed = {**F32, **changes}
    return {key: value for key, value in changed.items() if value is not None}


def two(first: list[int], second: list[int]) -> dict:
    """Two F32 tensors at the given offsets."""
    shapes = [[(end - begin) // 4] for begin, end in (first, second)]
    return {
        "a": {"dtype": "F32", "shape": shapes[0], "data_offsets": first},
        "b": {"dtype": "F32", "shape": shapes[1], "data_offsets": second},
    }


CASES: dict[str, bytes] = {
    "plain": packed({"a": F32}),
    "no_bytes": b"",
    "seven_bytes": b"\0" * 7,
    "zero_header": packed(b"", b""),
    "header_past_end": struct.pack("<Q", 1000) + b"{}",
    "header_of_100_mb": struct.pack("<Q", 100_000_001) + b"{}",
    "not_utf8": packed(b'{"\xff":1}', b""),
    "not_json": packed(b"{", b""),
    "list_root": packed(b"[]", b""),
    "nul_after_json": packed({"a": F32}, pad=b"\0\0"),
    "text_after_json": packed({"a": F32}, pad=b"x"),
    "spaces_after_json": packed({"a": F32}, pad=b"   "),
    "space_before_json": packed(b" " + json.dumps({"a": F32}).encode()),
    "metadata": packed({"__metadata__": {"format": "pt"}, "a": F32}),
    "metadata_number": packed({"__metadata__": {"format": 1}, "a": F32}),
    "duplicate_key": packed(b'{"a":%s,"a":%s}' % ((json.dumps(F32).encode(),) * 2)),
    "unknown_dtype": packed({"a": entry(dtype="F31")}),
    "complex128": packed({"a": entry(dtype="C128", shape=[1], data_offsets=[0, 16])}, b"\0" * 16),
    "no_dtype": packed({"a": entry(dtype=None)}),
    "no_shape": packed({"a": entry(shape=None)}),
    "no_offsets": packed({"a": entry(data_offsets=None)}),
    "negative_dim": packed({"a": entry(shape=[-2])}),
    "fractional_dim": packed({"a": entry(shape=[2.0])}),
    "overflow": packed({"a": entry(shape=[2**40, 2**40])}),
    "overflow_to_fit": packed({"a": entry(shape=[2**62, 2, 4, 2])}, b"\0" * 8),
    "size_differs": packed({"a": entry(shape=[3])}),
    "begin_after_end": packed({"a": entry(data_offsets=[8, 0])}),
    "three_offsets": packed({"a": entry(data_offsets=[0, 4, 8])}),
    "first_offset_not_zero": packed({"a": entry(data_offsets=[4, 12])}, b"\0" * 12),
    "hole": packed(two([0, 4], [8, 12]), b"\0" * 12),
    "overlap": packed(two([0, 8], [4, 12]), b"\0" * 12),
    "alias": packed(two([0, 8], [0, 8])),
    "data_too_short": packed({"a": F32}, b"\0" * 7),
    "data_too_long": packed({"a": F32}, b"\0" * 12),
    "f4_half_byte": packed({"a": entry(dtype="F4", shape=[3], data_offsets=[0, 2])}, b"\0" * 2),
    "f6_half_byte": packed(
        {"a": entry(dtype="F6_E2M3", shape=[3], data_offsets=[0, 3])}, b"\0" * 3
    ),
    "extra_field": packed({"a": {**F32, "note": [1, {"x": 2}]}}),
    "unsorted": packed({"b": entry(data_offsets=[8, 16]), "a": F32}, b"\0" * 16),
    "zero_dim": packed({"a": entry(shape=[0, 3], data_offsets=[0, 0])}, b""),
    "scalar": packed({"a": entry(shape=[], data_offsets=[0, 4])}, b"\0" * 4),
    "empty_object": packed(b"{}", b""),
    "unaligned": packed(
        {
            "a": entry(dtype="U8", shape=[1], data_offsets=[0, 1]),
            "b": entry(shape=[1], data_offsets=[1, 5]),
        },
        b"\7" + struct.pack("<f", 1.5),
    ),
    "deep_json": packed(b'{"a":%s}' % json.dumps({**F32, "x": [[[[[[[[1]]]]]]]]}).encode()),
}

DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32,
    torch.int64, torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
)  # fmt: skip


def reference_accepts(path: Path) -> bool:
    """Whether safetensors' own parser takes the file."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (SafetensorError, OSError, ValueError):
        return False


def main() -> None:
    """Write everything into the folder named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = []
    for name, content in CASES.items():
        path = folder / f"{name}.safetensors"
        path.write_bytes(content)
        verdicts.append(f"{name}\t{'accept' if reference_accepts(path) else 'reject'}\n")
    (folder / "verdicts.tsv").write_text("".join(verdicts))
    tensors = {}
    for dtype in DTYPES:
        values = torch.tensor(
            [[0, 1, 0], [1, 1, 0]] if dtype == torch.bool else [[1, 2, 4], [8, 16, 32]]
        )
        tensors[str(dtype).removeprefix("torch.")] = values.to(dtype)
    save_file(tensors, folder / "dtypes.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
