# SPDX-License-Identifier: Apache-2.0
"""Version 2 of `activation` for the demo: a staged copy with one more op, `squared_relu`."""

from __future__ import annotations

import shutil
from pathlib import Path


def replace_once(path: Path, old: str, new: str) -> None:
    """Replace the only occurrence of `old`; an error when the file no longer has exactly one."""
    text = path.read_text()
    if text.count(old) != 1:
        raise SystemExit(f"{path}: expected exactly one {old!r}, found {text.count(old)}")
    path.write_text(text.replace(old, new))


def stage_activation_v2(kernels: Path, stage: Path) -> Path:
    """Copy `activation` and what it shares below `stage`, make it version 2, return its folder.

    The files keep their times when nothing changed, so that a second build has nothing to do.
    """
    fresh = stage.with_name(stage.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    for name in ("activation", "primitives"):
        shutil.copytree(kernels / name, fresh / name, ignore=shutil.ignore_patterns("build"))
    package = fresh / "activation"
    addition = Path(__file__).parent / "activation_v2" / "squared_relu.cpp"
    shutil.copy(addition, package / "torch-ext" / addition.name)
    config = package / "build.toml"
    replace_once(config, "version = 1\n", "version = 2\n")
    replace_once(
        config,
        '"torch-ext/torch_binding.cpp"',
        '"torch-ext/torch_binding.cpp", "torch-ext/squared_relu.cpp"',
    )
    replace_once(
        package / "torch-ext" / "activation" / "__init__.py",
        "__all__ = [",
        "def squared_relu(out, x):\n"
        '    """out = max(x, 0) ** 2, fp32 on CPU; returns out."""\n'
        "    ops.squared_relu(out, x)\n    return out\n\n\n"
        '__all__ = [\n    "squared_relu",',
    )
    if stage.exists():
        kept = stage / "activation" / "build"
        if kept.exists():
            shutil.move(kept, package / "build")
        shutil.rmtree(stage)
    fresh.rename(stage)
    return stage / "activation"
