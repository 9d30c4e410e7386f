# SPDX-License-Identifier: Apache-2.0
"""The process in which checks run: it does those whose names driver.py sends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import device_build
import registry
import torch
from checks import Context
from own_process import gpu_is_usable, serve


@dataclass(frozen=True)
class Setup:
    """What all checks of a run share; `names` are those of --op."""

    built: dict[str, device_build.Built]
    names: list[str] | None
    is_quick: bool


def checking(setup: Setup) -> Callable[[str], None]:
    """What runs the check of a name."""
    packages = device_build.Packages(setup.built)

    def run(name: str) -> None:
        family, check = registry.CHECKS[name]
        torch.cuda.empty_cache()
        torch.manual_seed(20)
        check(Context(packages, registry.selected(family, setup.names), setup.is_quick))
        torch.cuda.synchronize()

    return run


if __name__ == "__main__":
    serve(sys.argv[1], checking, gpu_is_usable)
