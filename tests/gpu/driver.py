# SPDX-License-Identifier: Apache-2.0
"""Run every GPU check of the op packages; exit status 0 all hold, 1 one fails, 77 no GPU."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import device_build
import registry
import sanitizer
import torch
from checks import Absent, Check, Context, Family

NO_GPU = 77
ALL = (*(check for family in registry.FAMILIES for check in family.checks), sanitizer.sanitizer)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags of tests/gpu/run."""
    parser = argparse.ArgumentParser(prog="tests/gpu/run", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the checks and stop")
    parser.add_argument("--op", action="append", metavar="NAME", help="only this op or package")
    checks = [check.__name__ for check in ALL]
    parser.add_argument("--check", action="append", choices=checks, help="only these checks")
    parser.add_argument("--quick", action="store_true", help="smaller inputs")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the outcome as JSON")
    parser.add_argument(
        "--build-dir", type=Path, default=device_build.ROOT / "build" / "gpu", metavar="DIR"
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
    return options


def _expected() -> str:
    packages, ops = ", ".join(registry.PACKAGES), ", ".join(registry.OPS)
    return f"--op: expected a package of {packages}, or an op: {ops}"


def selected_checks(options: argparse.Namespace) -> list[tuple[Family | None, Check]]:
    """What --op and --check leave, with the family of each; the sanitizer belongs to none."""
    families = [family for family in registry.FAMILIES if registry.selected(family, options.op)]
    pairs = [(family, check) for family in families for check in family.checks]
    return [
        (family, check)
        for family, check in [*pairs, (None, sanitizer.sanitizer)]
        if not options.check or check.__name__ in options.check
    ]


def wanted_packages(options: argparse.Namespace) -> list[str]:
    """The packages that the selected checks need."""
    families = dict.fromkeys(family for family, _ in selected_checks(options) if family)
    return [name for family in families for name in registry.packages(family, options.op)]


def outcome(check: Callable[[], None]) -> dict[str, object]:
    """Run one check: its status (ok, FAIL, absent), the text of what is wrong, its seconds."""
    start = time.monotonic()
    status, text = "ok", ""
    try:
        torch.manual_seed(20)
        check()
        torch.cuda.synchronize()
    except Absent as reason:
        status, text = "absent", str(reason)
    except (AssertionError, RuntimeError) as error:
        status, text = "FAIL", str(error)
    return {"status": status, "text": text, "seconds": round(time.monotonic() - start, 2)}


def main(arguments: list[str]) -> int:
    """Build what is missing, run, print, write."""
    options = parse(arguments)
    wanted = selected_checks(options)
    if options.list:
        for _, check in wanted:
            print(f"{check.__name__:<16}{(check.__doc__ or '').splitlines()[0]}")
        return 0
    if not torch.cuda.is_available():
        print("tests/gpu/run: no GPU that torch can use; nothing was checked", file=sys.stderr)
        return NO_GPU
    packages = {}
    for name in wanted_packages(options):
        loaded = device_build.load(name, options.build_dir)
        packages[name] = loaded.module
        print(f"{name}: {loaded.origin}", flush=True)
    results = {}
    for family, check in wanted:
        if family is None:
            found = outcome(lambda: sanitizer.sanitizer(options.op))
        else:
            ops = registry.selected(family, options.op)
            context = Context(packages, ops, options.quick)
            found = outcome(partial(check, context))
        results[check.__name__] = found
        line = f"{found['status']:<7}{check.__name__:<16}{found['seconds']:>8} s  {found['text']}"
        print(line, flush=True)
    failed = [name for name, found in results.items() if found["status"] == "FAIL"]
    absent = [name for name, found in results.items() if found["status"] == "absent"]
    print(f"{len(results)} checks: {len(failed)} failed, {len(absent)} absent")
    if options.output:
        document = {
            "schema_version": 1,
            "device": torch.cuda.get_device_name(0),
            "torch": torch.__version__,
            "checks": results,
        }
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
