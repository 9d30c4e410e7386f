# SPDX-License-Identifier: Apache-2.0
"""Reads the shipped ELF files: exports, NEEDED, hardening. Exits 1 naming each violation."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

SYSTEM = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"}
NEEDED = {
    "libkernelhub_loader.so": {"libcrypto.so.3", "libfmt.so.9", "libspdlog.so.1.10"},
    "libkernelhub.so": {
        "libkernelhub_loader.so.0",
        "libcrypto.so.3",
        "libcurl.so.4",
        "libfmt.so.9",
    },
    "libkernelhub_torch.so": {"libkernelhub_loader.so.0", "libtorch_cpu.so", "libc10.so"},
    "libkernelhub_layers.so": {
        "libkernelhub.so.0",
        "libkernelhub_loader.so.0",
        "libkernelhub_torch.so.0",
        "libtorch_cpu.so",
        "libc10.so",
    },
}
# Mangled names of namespace kernelhub (types, functions, vtables, guards) and our C functions.
OURS = re.compile(
    r"^(_ZN?[KVTSIGR]*|_ZT[VISvh][\w]*|_ZGV\w*|_ZThn\d+_N|_ZGR\w*)?.*(9kernelhub|kernelhub_|kh_)"
)


def exports(elf: ELFFile) -> list[tuple[str, str]]:
    """(name, binding) of the defined dynamic symbols."""
    table = elf.get_section_by_name(".dynsym")
    return [
        (symbol.name, symbol["st_info"]["bind"])
        for symbol in table.iter_symbols()
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL"
    ]


def check(path: Path) -> list[str]:
    """Violations of one file."""
    found = []
    with path.open("rb") as file:
        elf = ELFFile(file)
        dynamic = next(s for s in elf.iter_sections() if isinstance(s, DynamicSection))
        tags = [(t.entry.d_tag, t) for t in dynamic.iter_tags()]
        needed = {t.needed for tag, t in tags if tag == "DT_NEEDED"}
        base = path.name.split(".so")[0] + ".so"
        if base in NEEDED:
            extra = needed - SYSTEM - NEEDED[base]
            found += [f"{path.name}: NEEDED {name} is not allowed" for name in sorted(extra)]
            for name, binding in exports(elf):
                # Weak template instances and typeinfo of other namespaces are merged, not ours.
                if binding == "STB_GLOBAL" and not OURS.match(name):
                    found.append(f"{path.name}: exports {name}")
        if "DT_TEXTREL" in {tag for tag, _ in tags}:
            found.append(f"{path.name}: has text relocations")
        segments = {segment["p_type"]: segment for segment in elf.iter_segments()}
        if segments["PT_GNU_STACK"]["p_flags"] & 1:
            found.append(f"{path.name}: executable stack")
        if "PT_GNU_RELRO" not in segments:
            found.append(f"{path.name}: no RELRO")
        for segment in elf.iter_segments():
            if segment["p_type"] == "PT_LOAD" and segment["p_flags"] & 3 == 3:
                found.append(f"{path.name}: writable and executable segment")
    return found


def main() -> int:
    """Check every file named on the command line."""
    found = [line for name in sys.argv[1:] for line in check(Path(name))]
    print("\n".join(found) or f"{len(sys.argv) - 1} files are as they must be")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
