# SPDX-License-Identifier: Apache-2.0
"""Run every GPU check of the op packages.

Exit status: 0 all hold, 1 one fails, 2 none fails but some were not run, 77 no GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import device_build
import registry
import torch
from check_worker import Setup
from checks import SANITIZER_TOOLS, Family
from own_process import ABSENT, FAIL, NOT_RUN, Budget, Outcome, Worker, write_whole
from sanitizer import sanitized

HERE = Path(__file__).parent
WORKER = (sys.executable, str(HERE / "check_worker.py"))
NO_GPU = 77
SANITIZER = "sanitizer"
# Seconds of a check, many times what it takes: a kernel that waits for ever costs no more.
LIMIT_S, QUICK_LIMIT_S = 180.0, 60.0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags of tests/gpu/run."""
    parser = argparse.ArgumentParser(prog="tests/gpu/run", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the checks and stop")
    parser.add_argument("--op", action="append", metavar="NAME", help="only this op or package")
    checks = [*registry.CHECKS, SANITIZER]
    parser.add_argument("--check", action="append", choices=checks, help="only these checks")
    parser.add_argument("--quick", action="store_true", help="smaller inputs")
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="stop after so long, building included, and say what was not run",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the outcomes as JSON, rewritten as they come"
    )
    parser.add_argument("--build-dir", type=Path, default=device_build.FOLDER, metavar="DIR")
    parser.add_argument(
        "--build",
        metavar="ARCH",
        help='compile for such GPUs ("90") and stop: the build folder serves another machine',
    )
    options = parser.parse_args(arguments)
    known = {name for one in registry.PACKAGES for name in (one, one.replace("-", "_"))}
    unknown = sorted(set(options.op or ()) - known - set(registry.OPS))
    if unknown:
        parser.error(f"{_expected()}, got {', '.join(unknown)}")
    if not selected_checks(options):
        parser.error(
            f"{_expected()} that --check {', '.join(options.check)} tries, "
            f"got {', '.join(options.op)}"
        )
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    return options


def _expected() -> str:
    packages, ops = ", ".join(registry.PACKAGES), ", ".join(registry.OPS)
    return f"--op: expected a package of {packages}, or an op: {ops}"


def _is_asked(name: str, options: argparse.Namespace) -> bool:
    return not options.check or name in options.check


def selected_checks(options: argparse.Namespace) -> dict[str, str]:
    """What --op and --check leave, and in words what it is."""
    found = {
        name: check.__doc__ or ""
        for name, (family, check) in registry.CHECKS.items()
        if registry.selected(family, options.op) and _is_asked(name, options)
    }
    if _is_asked(SANITIZER, options):
        found[SANITIZER] = "compute-sanitizer finds nothing in small runs of what launches most."
    return found


def wanted_packages(options: argparse.Namespace) -> list[str]:
    """The packages that the selected checks need."""
    families = [
        family
        for family in registry.FAMILIES
        if registry.selected(family, options.op)
        and any(_is_asked(name, options) for name in (*map(_name, family.checks), SANITIZER))
    ]
    return [name for family in families for name in registry.packages(family, options.op)]


def _name(check: Callable[..., object]) -> str:
    return check.__name__


def tasks(
    options: argparse.Namespace, worker: Worker, setup: Setup, budget: Budget
) -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """Everything to do, in its order, by name."""
    limit = QUICK_LIMIT_S if options.quick else LIMIT_S
    for name, (family, _) in registry.CHECKS.items():
        if name in selected_checks(options):
            yield name, partial(worker.run, name, limit, family.name)

    def under(tool: str, family: Family) -> Outcome:
        worker.close()  # what it holds of the GPU's memory
        return sanitized(tool, family, WORKER, setup, budget)

    if _is_asked(SANITIZER, options):
        for tool in SANITIZER_TOOLS:
            for family in registry.FAMILIES:
                if registry.selected(family, options.op) and tool in family.sanitizer_tools:
                    yield f"{tool} {family.name}", partial(under, tool, family)


def main(arguments: list[str]) -> int:
    """Build what is missing, run, print, write."""
    options = parse(arguments)
    if options.list:
        for name, words in selected_checks(options).items():
            print(f"{name:<28}{words.splitlines()[0]}")
        return 0
    budget = Budget(options.budget)
    budget.heed_signals()
    packages = wanted_packages(options)
    if options.build:
        built = device_build.build(packages, options.build_dir, budget, options.build)
        return 0 if all(one.folder for one in built.values()) else 1
    if not torch.cuda.is_available():
        print("tests/gpu/run: no GPU that torch can use; nothing was checked", file=sys.stderr)
        return NO_GPU
    built = device_build.build(packages, options.build_dir, budget)
    setup = Setup(built, options.op, options.quick)
    worker = Worker(WORKER, setup, budget)
    try:
        found = run(tasks(options, worker, setup, budget), options.output)
    finally:
        worker.close()
    counts = Counter(one.status for one in found.values())
    missing = f"{counts[ABSENT]} absent, {counts[NOT_RUN]} not run"
    print(f"{len(found)} checks: {counts[FAIL]} failed, {missing}")
    return 1 if counts[FAIL] else 2 if counts[NOT_RUN] else 0


def run(
    wanted: Iterator[tuple[str, Callable[[], Outcome]]], output: Path | None
) -> dict[str, Outcome]:
    """Do one after the other; after each, what is known stands in `output`."""
    found: dict[str, Outcome] = {}
    for name, task in wanted:
        one = found[name] = task()
        print(f"{one.status:<8}{name:<28}{one.seconds:>7.1f} s  {one.text}", flush=True)
        if output:
            checks = {
                name: {"status": one.status, "text": one.text, "seconds": round(one.seconds, 2)}
                for name, one in found.items()
            }
            document = {
                "schema_version": 1,
                "device": torch.cuda.get_device_name(0),
                "torch": torch.__version__,
                "checks": checks,
            }
            write_whole(output, json.dumps(document, indent=1) + "\n")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
