# SPDX-License-Identifier: Apache-2.0
"""Load activation v1 with `kernelhub` and with the unmodified `kernels` client; compare numbers."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

# Each client in a process of its own: torch registers a package's ops once per process.
PROGRAM = """
import json, time
began = time.perf_counter()
import {module} as client
imported = time.perf_counter()
kernel = client.get_kernel("kernels-community/activation", version=1, backend="cpu")
loaded = time.perf_counter()
import torch
x = torch.linspace(-8, 8, 4097)
out = torch.empty_like(x)
kernel.gelu_fast(out, x)
reference = 0.5 * x * (1 + torch.tanh(x * 0.79788456 * (1 + 0.044715 * x * x)))
print(json.dumps({{"client": client.__name__, "version": client.__version__,
  "module": kernel.__name__, "import_s": imported - began, "get_kernel_s": loaded - imported,
  "max_abs_to_eager": (out - reference).abs().max().item(), "values": out.tolist()}}))
"""


def run_client(module: str) -> dict:
    """Facts and values from one client."""
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)], check=True, stdout=subprocess.PIPE
    ).stdout
    return json.loads(out)


def main() -> None:
    """Run both clients, print one line each, write the facts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    clients = [run_client(module) for module in ("kernelhub", "kernels")]
    for facts in clients:
        print(
            f"{facts['client']:>10} {facts['version']:<8} loaded {facts['module']}; gelu_fast on "
            f"4097 values, max abs to eager {facts['max_abs_to_eager']:.2e}"
        )
    ours, theirs = (facts.pop("values") for facts in clients)
    equal = ours == theirs
    print(f"values of the two clients are {'bit-equal' if equal else 'DIFFERENT'}")
    arguments.out.write_text(json.dumps({"clients": clients, "bit_equal": equal}, indent=1))
    if not equal:
        raise SystemExit("demo: the two clients computed different values")


if __name__ == "__main__":
    main()
