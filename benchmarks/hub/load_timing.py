# SPDX-License-Identifier: Apache-2.0
"""Times one client in a process of its own; prints a JSON object: measure -> microseconds.

load_timing.py CLIENT MEASURE ARGUMENTS-AS-JSON
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

REPEATS = 50


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - began) / 1e3


def drop_modules(client: ModuleType, package_id: str) -> None:
    """Make the client load again: its registry and the modules of the package are emptied."""
    if client.__name__ == "kernels":
        importlib.import_module("kernels.importer")._loaded_kernels.clear()
    else:
        for module, names in (
            ("kernelhub.loaded", ["_loaded"]),
            ("kernelhub.warm", ["_hub", "_local"]),
            ("kernelhub.importer", ["_packages"]),
        ):
            for name in names:
                getattr(importlib.import_module(module), name).clear()
    for name in [name for name in sys.modules if name.split(".")[0] == package_id]:
        del sys.modules[name]


def main() -> None:
    client_name, measure, text = sys.argv[1:]
    arguments: dict[str, Any] = json.loads(text)
    if measure == "import":
        print(json.dumps([timed(lambda: importlib.import_module(client_name))]))
        return
    client = importlib.import_module(client_name)
    path, package_id = arguments.pop("path", None), arguments.pop("package_id")
    dropped = arguments.pop("dropped")
    if path is not None:
        from pathlib import Path

        load = lambda: client.get_local_kernel(Path(path), **arguments)  # noqa: E731
    else:
        repo_id = arguments.pop("repo_id")
        load = lambda: client.get_kernel(repo_id, **arguments)  # noqa: E731
    times = [timed(load)]
    if measure == "first":
        print(json.dumps(times))
        return
    times.clear()
    for _ in range(REPEATS):
        if dropped:
            drop_modules(client, package_id)
        times.append(timed(load))
    print(json.dumps(times))


if __name__ == "__main__":
    main()
