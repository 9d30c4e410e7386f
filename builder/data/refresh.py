# SPDX-License-Identifier: Apache-2.0
"""Rewrites the policy data of `kernelhub check` in this folder.

    pip download --no-deps auditwheel abi3info     # then unpack both wheels
    python builder/data/refresh.py --auditwheel DIR --abi3info DIR --torch PREFIX

DIR is the folder of the unpacked wheel, PREFIX the `torch` folder of an installed wheel.

Sources: the manylinux policies of auditwheel (MIT), CPython's stable ABI as listed by abi3info
(MIT), the names and version guards of torch's C shim headers (BSD-3-Clause).
"""

import argparse
import json
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
CPUS = ("x86_64", "aarch64")
GUARD = re.compile(r"#if\s+TORCH_FEATURE_VERSION\s*>=\s*TORCH_VERSION_(\d+)_(\d+)_0")
SHIM = re.compile(r"\b((?:aoti_)?torch_[a-z0-9_]+)\s*\(")
SHIM_HEADERS = ("csrc/inductor/aoti_torch/c", "csrc/inductor/aoti_torch/generated", "csrc/stable/c")


def version_of(wheel: Path, package: str) -> str:
    return next(wheel.glob(f"{package}-*.dist-info")).name.split("-")[1].removesuffix(".dist")


def manylinux(wheel: Path) -> dict:
    policies = json.loads((wheel / "auditwheel/policy/manylinux-policy.json").read_text())
    return {
        "source": f"auditwheel {version_of(wheel, 'auditwheel')}, policy/manylinux-policy.json",
        "license": "MIT",
        "policies": {
            policy["name"]: {
                cpu: policy["symbol_versions"][cpu]
                for cpu in CPUS
                if cpu in policy["symbol_versions"]
            }
            for policy in policies
            if policy["name"].startswith("manylinux")
        },
    }


def python_abi(wheel: Path) -> dict:
    sys.path.insert(0, str(wheel))
    import abi3info

    added = {
        entry.symbol.name: f"{entry.added.major}.{entry.added.minor}"
        for table in (abi3info.FUNCTIONS, abi3info.DATAS)
        for entry in table.values()
    }
    return {
        "source": f"abi3info {version_of(wheel, 'abi3info')}, CPython Misc/stable_abi.toml",
        "license": "MIT",
        "added": dict(sorted(added.items())),
    }


def torch_shim(prefix: Path) -> dict:
    added: dict[str, str] = {}
    for folder in SHIM_HEADERS:
        for header in sorted((prefix / "include/torch" / folder).glob("*.h")):
            version, depth, guard_depth = "", 0, 0
            for line in header.read_text().splitlines():
                directive = line.strip()
                if directive.startswith("#if"):
                    depth += 1
                    if guard := GUARD.match(directive):
                        version, guard_depth = f"{guard[1]}.{guard[2]}", depth
                elif directive.startswith("#endif"):
                    if depth == guard_depth:
                        version, guard_depth = "", 0
                    depth -= 1
                elif not directive.startswith(("//", "#", "*")):
                    for name in SHIM.findall(line):
                        added.setdefault(name, version)
    text = (prefix / "version.py").read_text()
    torch = re.search(r"__version__ = '(\d+\.\d+)", text)[1]
    return {
        "source": f"torch {torch}, include/torch/csrc/{{inductor/aoti_torch,stable}}",
        "license": "BSD-3-Clause",
        "newest": torch,
        "added": dict(sorted(added.items())),
    }


def write(name: str, data: dict) -> None:
    (FOLDER / name).write_text(json.dumps(data, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--auditwheel", type=Path, required=True)
    parser.add_argument("--abi3info", type=Path, required=True)
    parser.add_argument("--torch", type=Path, required=True)
    arguments = parser.parse_args()
    write("manylinux.json", manylinux(arguments.auditwheel))
    write("python_abi.json", python_abi(arguments.abi3info))
    write("torch_shim.json", torch_shim(arguments.torch))


if __name__ == "__main__":
    main()
