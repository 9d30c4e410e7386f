# SPDX-License-Identifier: Apache-2.0
"""House rules that no formatter knows: owners of raw handles, banned includes, names, headers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = (
    "abi",
    "core",
    "hub_client",
    "trust",
    "loader",
    "runtime",
    "layers",
    "torch_bridge",
    "builder",
    "hub_server",
    "cli",
    "python/src",
)

# pattern -> (what it is, files that may contain it)
OWNED = {
    r"\bdlopen\(|\bdlclose\(": (
        "dlopen",
        # import_test.cpp opens in a child process that only reports.
        {"loader/src/shared_object.cpp", "builder/src/import_test.cpp"},
    ),
    r"\bcurl_(easy|multi|slist|url)\w*\(": (
        "libcurl",
        {
            "hub_client/src/curl_transport.cpp",
            "hub_client/src/curl_handles.h",
            "hub_client/src/curl_handles.cpp",
        },
    ),
    r"\b(secure_)?getenv\(": ("the environment", {"core/src/config.cpp"}),
    r"\bflock\(": ("flock", {"core/src/file_lock.cpp"}),
    r"\bEVP_(MD|Digest)\w*\(": ("OpenSSL digests", {"core/src/digest.cpp"}),
    r"#include <httplib": ("cpp-httplib", {"hub_server/src/http_listener.cpp"}),
    r"#include <CLI/": ("CLI11", {"cli/src/parse_args.cpp"}),
    r"#include <spdlog": ("spdlog", {"core/src/log.cpp"}),
}
BANNED = {
    r"#include <torch/(torch|nn|all|extension)\.h>": "heavy torch header (see house rules)",
    r"#include <ATen/ATen\.h>": "heavy torch header",
    r"#include <regex>": "<regex>",
    r"(?<![:\w])(system|popen)\(\"": "a shell",
    r"\bnlohmann::json::parse\(": "json::parse on foreign bytes; use parse_untrusted_json",
    r"RTLD_GLOBAL|RTLD_DEEPBIND": "RTLD_GLOBAL or RTLD_DEEPBIND",
}
BAD_NAMES = re.compile(r"(^|[/_])(utils?|helpers?|misc|common|manager)([/_.]|$)")
SPDX = "SPDX-License-Identifier: Apache-2.0"
TODO = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))")
MACHINE_PATHS = re.compile(r"(^|[^A-Za-z0-9_.])/(work|farm|root)/")


def tracked() -> list[str]:
    """Paths that git tracks."""
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return out.stdout.decode().splitlines()


def findings_of(path: str, text: str) -> list[str]:
    """All findings of one file, as `path:line: what`."""
    found = []
    lines = text.splitlines()
    source = path.endswith((".h", ".hpp", ".cpp", ".c", ".cu", ".cuh"))
    if (source or path.endswith(".py")) and SPDX not in "\n".join(lines[:2]):
        found.append(f"{path}:1: first line lacks '{SPDX}'")
    product = source and path.startswith(PRODUCT)
    for number, line in enumerate(lines, 1):
        here = f"{path}:{number}:"
        if MACHINE_PATHS.search(line) and path != "tools/check_style.py":
            found.append(f"{here} path of a machine")
        if TODO.search(line) and path != "tools/check_style.py":
            found.append(f"{here} unfinished mark without an issue")
        if not product:
            continue
        code = line.split("//")[0]
        for pattern, (what, owners) in OWNED.items():
            if re.search(pattern, code) and path not in owners:
                found.append(f"{here} {what} belongs to {', '.join(sorted(owners))}")
        for pattern, what in BANNED.items():
            if re.search(pattern, code):
                found.append(f"{here} banned: {what}")
    return found


def main() -> int:
    """Print findings; 1 when there are any."""
    found = []
    for path in tracked():
        if BAD_NAMES.search(path):
            found.append(f"{path}: name it after what it is")
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue
        except FileNotFoundError:
            continue
        found += findings_of(path, text)
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
