# SPDX-License-Identifier: Apache-2.0
"""The machine in words. Results of different machines are not comparable."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def first_line(*command: str) -> str:
    """First line of a program's output, or "absent" where there is no such program."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "absent"
    return done.stdout.split("\n")[0]


def commit() -> str:
    """The commit of this tree, and whether files differ from it."""
    git = ("git", "-C", str(ROOT))
    changed = first_line(*git, "status", "--porcelain", "--untracked-files=no")
    changes = " with changes" if changed not in ("", "absent") else ""
    return first_line(*git, "rev-parse", "HEAD") + changes


def last_level_cache() -> int:
    """Bytes of the largest cache of this processor, 0 where the system does not tell."""
    return max(_caches().values(), default=0)


def second_level_cache() -> int:
    """Bytes of the cache behind the first, which a core has to itself; 0 where the system does not
    tell.
    """
    return _caches().get(2, 0)


def _caches() -> dict[int, int]:
    """Bytes of the caches for data by level."""
    found = {}
    for size_file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        folder = size_file.parent
        level, kind, size = (
            (folder / name).read_text().strip() for name in ("level", "type", "size")
        )
        if kind != "Instruction":
            found[int(level)] = int(size.removesuffix("K")) << 10
    return found


def memory() -> int:
    """Bytes of memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def host() -> dict[str, Any]:
    """Processor, memory, system, compiler, torch and commit."""
    import torch

    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next(
        line.split(":")[1].strip() for line in cpuinfo.splitlines() if "model name" in line
    )
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "instruction_sets": [
            name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {name}" in cpuinfo
        ],
        "last_level_cache": f"{last_level_cache() >> 20} MiB",
        "memory": Path("/proc/meminfo").read_text().split("\n")[0].split(":")[1].strip(),
        "system": platform.platform(),
        "compiler": first_line("c++", "--version"),
        "torch": torch.__version__,
        "commit": commit(),
        "load_average": os.getloadavg()[0],
    }
