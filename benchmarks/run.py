# SPDX-License-Identifier: Apache-2.0
"""Run the benchmarks of calls and clients and write benchmarks/results/<name>.{json,md}.

run.py --build-dir build/dev [--name calls-2core]

Each figure is a ratio to a peer measured in the same run. The result says which machine, compiler,
torch and commit it was taken with; results of different machines are not comparable. Op packages
have drivers of their own: benchmarks/cpu/run, benchmarks/gpu/run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from protocol import machine

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LOADER = ("function_call", "op_call", "layer_call")
PROCESSES = 9
# What print_floor of loader/paired_times.h writes.
COMPARISON = re.compile(
    r"(?P<what>.*?) +(?P<value>-?[0-9.]+) (?P<unit>\S+) +\(at most (?P<floor>[0-9.]+)\) \w+"
)


def run_json(command: list[str | Path], environment: dict[str, str], output: Path) -> Any:
    """Run a benchmark that writes JSON to `output`."""
    print(f"running {Path(command[0]).name} {Path(command[1]).name if len(command) > 1 else ''}")
    subprocess.run([str(part) for part in command], check=True, env=environment, cwd=ROOT)
    return json.loads(output.read_text())


def call_costs(build: Path, program: str) -> dict[str, Any]:
    """Medians and comparisons of a Google Benchmark program over several processes.

    Where code and heap come to lie differs from process to process and is worth some nanoseconds.
    """
    print(f"running {program}")
    subprocess.run(["cmake", "--build", str(build), "--target", program], check=True)
    times: dict[str, list[float]] = {}
    differences: dict[tuple[str, str, float], list[float]] = {}
    for _ in range(PROCESSES):
        # It ends with 1 for a missed floor.
        command = [build / "bin" / program, "--benchmark_color=false"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{program} ended with {done.returncode}: {done.stderr}")
        for line in done.stdout.splitlines():
            if "_median " in line:
                name, value = line.split()[:2]
                times.setdefault(name.removesuffix("_median"), []).append(float(value))
            elif found := COMPARISON.fullmatch(line):
                key = (found["what"], found["unit"], float(found["floor"]))
                differences.setdefault(key, []).append(float(found["value"]))
    if not differences:
        raise SystemExit(f"{program} printed no comparison")
    comparisons = []
    for (what, unit, floor), values in differences.items():
        low, median, high = statistics.quantiles(values, n=4)
        verdict = "ok" if median <= floor else "MISSED"
        comparisons.append(
            f"{what}: {median:.2f} {unit} ({low:.2f} to {high:.2f}; at most {floor:g}) {verdict}"
        )
    medians = [(name, round(statistics.median(values), 1)) for name, values in times.items()]
    return {"processes": PROCESSES, "median_ns": medians, "comparisons": comparisons}


def measure(build: Path) -> dict[str, Any]:
    """All benchmarks, one after the other: never two at a time."""
    environment = os.environ | {"PYTHONPATH": str(build / "python")}
    scratch = build / "benchmark.json"
    results: dict[str, Any] = {}
    for name in LOADER:
        results[name] = call_costs(build, f"kernelhub_benchmark_{name}")
    script = ROOT / "benchmarks" / "hub" / "compare_clients.py"
    command = [sys.executable, script, "--build-dir", build, "--output", scratch]
    results["clients"] = run_json(command, environment, scratch)
    return results


def flat_table(value: Any, prefix: str = "") -> list[str]:
    """Markdown rows of a nested result: path and value."""
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in flat_table(item, f"{prefix}{key} / ")]
    if isinstance(value, list):
        return [f"| {prefix.rstrip(' /')} | {', '.join(map(str, value))} |"]
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return [f"| {prefix.rstrip(' /')} | {shown} |"]


def call_table(result: dict[str, Any]) -> list[str]:
    """Markdown of one call benchmark: medians, then the comparisons with their floors."""
    lines = [f"Medians of {result['processes']} processes; in brackets the quartiles.", ""]
    lines += ["| what | median ns |", "|---|---|"]
    lines += [f"| {what} | {nanoseconds} |" for what, nanoseconds in result["median_ns"]]
    return [*lines, "", *(f"- {line}" for line in result["comparisons"])]


def to_markdown(document: dict[str, Any]) -> str:
    """The result as a page."""
    lines = ["# Benchmark results", "", "| machine | |", "|---|---|"]
    lines += flat_table(document["machine"])
    for name, result in document["results"].items():
        lines += ["", f"## {name}", ""]
        if name in LOADER:
            lines += call_table(result)
        else:
            lines += ["| figure | value |", "|---|---|", *flat_table(result)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build-dir", type=Path, required=True)
    parser.add_argument("--name", default="calls", help="stem of the result files")
    arguments = parser.parse_args()
    document = {"machine": machine.host(), "results": measure(arguments.build_dir.resolve())}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / f"{arguments.name}.md").write_text(to_markdown(document))
    print(f"results: {RESULTS / arguments.name}.md")


if __name__ == "__main__":
    main()
