# SPDX-License-Identifier: Apache-2.0
"""get_kernel and import against the Python client `kernels`, on one hub and in one run.

compare_clients.py --build-dir build/release [--output FILE.json]

Every figure is measured in a new process; the two clients take turns, so that a change of the
machine's speed meets both. Ratios are ours / theirs, from the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))

from hub_process import Hub, start_hub  # noqa: E402
from packages import write_package  # noqa: E402

CLIENTS = ("kernelhub", "kernels")
ROUNDS = 5
PACKAGE_ID = "_toy_cpu_benchmark"
FILES = {
    "__init__.py": "from .scale import scale\nfrom . import layers\n",
    "scale.py": "def scale(values, factor):\n    return [factor * v for v in values]\n",
    "layers.py": "class Scale:\n    def forward(self, x):\n        return x\n",
}


def environment(build: Path, folder: Path, home: Path, hub: Hub) -> dict[str, str]:
    policy = folder / "trust.toml"
    policy.write_text(f'endpoints = ["{hub.url}"]\n')
    policy.chmod(0o600)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "KERNELHUB_TRUST"))}
    return kept | {
        "PYTHONPATH": str(build / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HOME": str(home),
        "HF_ENDPOINT": hub.url,
        "XDG_STATE_HOME": str(folder / "state"),
        "KERNELHUB_TRUST_FILE": str(policy),
    }


def run(client: str, measure: str, arguments: dict[str, Any], env: dict[str, str]) -> list[float]:
    command = [sys.executable, Path(__file__).with_name("load_timing.py"), client, measure]
    done = subprocess.run(
        [*command, json.dumps(arguments)], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{client} {measure}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_all(build: Path, folder: Path) -> list[dict[str, Any]]:
    os.environ["KERNELHUB_CLI"] = str(build / "bin" / "kernelhub")
    hub = start_hub(folder / "hub", "kernels-test")
    try:
        source = folder / "source"
        write_package(source, FILES, package_id=PACKAGE_ID, name="toy")
        commit = hub.publish("kernels-test/toy", source)
        base = {"package_id": PACKAGE_ID, "dropped": False}
        by_version = base | {"repo_id": "kernels-test/toy", "version": 1}
        by_commit = base | {"repo_id": "kernels-test/toy", "revision": commit}
        local = base | {"path": str(source)}
        # No offline rows: the peer needs every file of the repository for them (hub spec 5.2).
        rows: list[tuple[str, str, dict[str, Any], dict[str, str]]] = [
            ("import", "import", {}, {}),
            ("first get_kernel by version, empty cache", "cold", by_version, {}),
            ("get_kernel by version, loaded, online", "warm", by_version, {}),
            ("get_kernel by commit, loaded, online", "warm", by_commit, {}),
            (
                "get_kernel by commit, dropped, online",
                "warm",
                by_commit | {"dropped": True},
                {},
            ),
            ("get_local_kernel, loaded", "warm", local, {}),
            ("get_local_kernel, dropped", "warm", local | {"dropped": True}, {}),
        ]
        return [measure_row(build, folder, hub, *row) for row in rows]
    finally:
        hub.stop()


def measure_row(
    build: Path,
    folder: Path,
    hub: Hub,
    name: str,
    measure: str,
    arguments: dict[str, Any],
    more: dict[str, str],
) -> dict[str, Any]:
    times: dict[str, list[float]] = {client: [] for client in CLIENTS}
    requests: dict[str, int] = {}
    for number in range(ROUNDS):
        for client in CLIENTS:
            home = folder / f"home-{client}"
            if measure == "cold":
                home = folder / f"cold-{client}-{number}"
            env = environment(build, folder, home, hub)
            # The peer finds its own cache by a complete download only; both start from one.
            if measure == "warm":
                run(client, "first", arguments | {"dropped": False}, env)
            before = len(hub.requests())
            kind = "first" if measure == "cold" else measure
            times[client] += run(client, kind, arguments, env | more)
            requests[client] = len(hub.requests()) - before
    ours, theirs = (statistics.median(times[client]) for client in CLIENTS)
    return {
        "measure": name,
        "kernelhub_us": {"min": min(times["kernelhub"]), "median": ours},
        "kernels_us": {"min": min(times["kernels"]), "median": theirs},
        "ratio": ours / theirs,
        "requests": requests,
    }


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_all(options.build_dir.resolve(), Path(folder))
    result = {"machine": machine(), "rounds": ROUNDS, "rows": rows}
    print(f"{'measure':45} {'kernelhub':>12} {'kernels':>12} {'ratio':>7}   requests")
    for row in rows:
        ours, theirs = row["kernelhub_us"]["median"], row["kernels_us"]["median"]
        requests = " / ".join(str(row["requests"][client]) for client in CLIENTS)
        print(
            f"{row['measure']:45} {ours:9.1f} us {theirs:9.1f} us {row['ratio']:7.3f}   {requests}"
        )
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
