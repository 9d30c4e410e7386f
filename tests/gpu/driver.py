# SPDX-License-Identifier: Apache-2.0
"""Run every GPU check of the op packages; exit status 0 all hold, 1 one fails, 77 no GPU."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import activation_reference as reference
import checks
import device_build
import torch

NO_GPU = 77
PACKAGES = ("activation", "layer-norm", "relu")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags of tests/gpu/run."""
    names = [check.__name__ for check in checks.ALL]
    parser = argparse.ArgumentParser(prog="tests/gpu/run", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the checks and stop")
    parser.add_argument("--op", action="append", choices=reference.ALL, help="only these ops")
    parser.add_argument("--check", action="append", choices=names, help="only these checks")
    parser.add_argument("--quick", action="store_true", help="smaller inputs")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the outcome as JSON")
    parser.add_argument(
        "--build-dir", type=Path, default=device_build.ROOT / "build" / "gpu", metavar="DIR"
    )
    return parser.parse_args(arguments)


def outcome(check: object, context: checks.Context) -> dict[str, object]:
    """Run one check: its status (ok, FAIL, absent), the text of what is wrong, its seconds."""
    start = time.monotonic()
    status, text = "ok", ""
    try:
        torch.manual_seed(20)
        check(context)  # type: ignore[operator]
        torch.cuda.synchronize()
    except checks.Absent as reason:
        status, text = "absent", str(reason)
    except (AssertionError, RuntimeError) as error:
        status, text = "FAIL", str(error)
    return {"status": status, "text": text, "seconds": round(time.monotonic() - start, 2)}


def main(arguments: list[str]) -> int:
    """Build what is missing, run, print, write."""
    options = parse(arguments)
    wanted = [c for c in checks.ALL if not options.check or c.__name__ in options.check]
    if options.list:
        for check in wanted:
            print(f"{check.__name__:<16}{(check.__doc__ or '').splitlines()[0]}")
        return 0
    if not torch.cuda.is_available():
        print("tests/gpu/run: no GPU that torch can use; nothing was checked", file=sys.stderr)
        return NO_GPU
    packages = {}
    for name in PACKAGES:
        if (device_build.PACKAGES / name / "build.toml").is_file():
            loaded = device_build.load(name, options.build_dir)
            packages[name] = loaded.module
            print(f"{name}: {loaded.origin}", flush=True)
    context = checks.Context(packages, tuple(options.op or reference.ALL), options.quick)
    results = {}
    for check in wanted:
        results[check.__name__] = found = outcome(check, context)
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
