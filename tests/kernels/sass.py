# SPDX-License-Identifier: Apache-2.0
"""Reads machine code of CUDA libraries: architectures, kernels, and the cost of their hot paths."""

import functools
import heapq
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

# What the packages' build.toml name; PTX for later ones is that of the last.
ARCHS = ("sm_80", "sm_90", "sm_100", "sm_120")
LINE = re.compile(r"/\*(?P<at>[0-9a-f]{4,})\*/\s+(?P<code>[^;]*);")


@dataclass(frozen=True)
class Instruction:
    """One machine instruction; `target` is where a branch goes."""

    address: int
    text: str
    target: int | None

    @functools.cached_property
    def opcode(self) -> str:
        """The name with its suffixes, without the predicate: LDG.E.128."""
        return re.sub(r"^@!?U?P\w+\s+", "", self.text).split()[0]

    @property
    def is_conditional(self) -> bool:
        """Whether it may be skipped."""
        return self.text.startswith("@") or re.match(r"BRA\.U\S* !?UP", self.text) is not None


@dataclass(frozen=True)
class Kernel:
    """A kernel of one architecture."""

    name: str
    arch: str
    code: tuple[Instruction, ...]

    @property
    def touches_local_memory(self) -> bool:
        """Whether registers spill, or arrays have no place in them."""
        return any(one.opcode.startswith(("LDL", "STL")) for one in self.code)

    def hot_path(self) -> int:
        """Instructions of one turn over full chunks: from the block with the most 128-bit loads to
        the one with the most 128-bit stores and back, on the shortest path.
        """
        loads, stores = self._most("LDG.E.128"), self._most("STG.E.128")
        stops = [*loads, *stores]
        steps = sum(self._distance(a, b) for a, b in itertools.pairwise(stops))
        return steps + self._distance(stops[-1], stops[0])

    def executed(self, stores: int) -> int:
        """Instructions of a thread from its entry to its exit, at least, if it goes through the
        block with the most 128-bit loads and makes `stores` 128-bit stores after it.
        """
        first = self._most("LDG.E.128")[0]
        entry = self._distance(0, first)
        return (
            1
            + entry
            + self._shortest(
                first,
                (stores, 0),
                lambda at, left: left == (0, 0) and self.code[at].opcode.startswith("EXIT"),
            )
        )

    def turn(self, stores: int, barriers: int) -> int:
        """Instructions of one turn of the loop that holds the last 128-bit loads, at least, if it
        makes `stores` 128-bit stores and waits at `barriers` barriers of the block.
        """
        # Functions that are not inlined stand behind the kernel's last exit.
        end = max(i for i, one in enumerate(self.code) if one.opcode.startswith("EXIT"))
        last = max(i for i in range(end) if self.code[i].opcode.startswith("LDG.E.128"))
        return self._shortest(
            last, (stores, barriers), lambda at, left: left == (0, 0) and at == last
        )

    def loads_in_flight(self) -> int:
        """128-bit loads of that turn."""
        return len(self._most("LDG.E.128"))

    def loads_before_a_sum(self) -> int:
        """128-bit loads in front of the first exchange between a warp's threads."""
        ahead = itertools.takewhile(lambda one: not one.opcode.startswith("SHFL"), self.code)
        return sum(one.opcode.startswith("LDG.E.128") for one in ahead)

    def longest_path(self) -> int:
        """Instructions of one pass from the entry to an exit on the longest path, at most: loops
        run once, and both ways of a branch are taken for the longer one.
        """
        successors = self._successors()
        lengths = [1] * len(self.code)
        for index in reversed(range(len(self.code))):
            ahead = (lengths[follower] for follower in successors[index] if follower > index)
            lengths[index] += max(ahead, default=0)
        return lengths[0]

    def _most(self, opcode: str) -> list[int]:
        """Where `opcode` stands in the basic block that has most of it."""
        starts = {one.target for one in self.code}
        blocks: list[list[int]] = [[]]
        for index, one in enumerate(self.code):
            if one.address in starts:
                blocks.append([])
            if one.opcode.startswith(opcode):
                blocks[-1].append(index)
            if one.opcode.startswith(("BRA", "EXIT")):
                blocks.append([])
        return max(blocks, key=len)

    def _distance(self, start: int, goal: int) -> int:
        """Instructions executed after `start` up to and with `goal`, at least."""
        return self._shortest(start, (0, 0), lambda at, _: at == goal)

    def _shortest(
        self,
        start: int,
        wanted: tuple[int, int],
        is_goal: Callable[[int, tuple[int, int]], bool],
    ) -> int:
        """Instructions executed after `start` up to and with a goal, at least. A goal is a place
        and what is still to come of `wanted`: 128-bit stores and barriers; `start` is none.
        """
        successors = self._successors()
        costs = {(start, wanted): 0}
        heap = [(0, start, wanted)]
        while heap:
            cost, index, left = heapq.heappop(heap)
            for follower in successors[index]:
                opcode = self.code[follower].opcode
                stores = left[0] - (left[0] > 0 and opcode.startswith("STG.E.128"))
                barriers = left[1] - (left[1] > 0 and opcode.startswith("BAR.SYNC"))
                place = (follower, (stores, barriers))
                if is_goal(*place):
                    return cost + 1
                if cost + 1 < costs.get(place, 1 << 30):
                    costs[place] = cost + 1
                    heapq.heappush(heap, (cost + 1, *place))
        raise AssertionError(f"{self.name}: no path from {start}")

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def _successors(self) -> list[list[int]]:
        at = {one.address: index for index, one in enumerate(self.code)}
        followers = []
        for index, one in enumerate(self.code):
            after = [index + 1] if index + 1 < len(self.code) else []
            if one.opcode.startswith(("EXIT", "CALL")):
                # What is called is a slow path, whose instructions are not counted here.
                followers.append(after if one.is_conditional else [])
            elif one.opcode.startswith("BRA") and one.target is not None:
                followers.append([at[one.target], *(after if one.is_conditional else [])])
            else:
                followers.append(after)
        return followers


def tool(name: str) -> Path | None:
    """cuobjdump or nvdisasm: on PATH, of the toolkit, or of the triton wheel; None where absent."""
    found = shutil.which(name)
    if found:
        return Path(found)
    triton = find_spec("triton")
    folders = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"]
    if triton is not None and triton.origin is not None:
        folders.append(Path(triton.origin).parent / "backends" / "nvidia" / "bin")
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def cuobjdump(library: Path, *options: str) -> str:
    """What cuobjdump prints on a library."""
    program = tool("cuobjdump")
    assert program is not None, "cuobjdump is absent"
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    command = [str(program), *options, str(library)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"PATH": path}
    )
    return done.stdout


def architectures(library: Path) -> tuple[set[str], set[str]]:
    """Architectures with machine code, and with PTX."""
    return tuple(
        set(re.findall(r"\.(sm_\d+\w?)\.", cuobjdump(library, option)))
        for option in ("-lelf", "-lptx")
    )


@functools.cache
def kernels(library: Path, arch: str) -> list[Kernel]:
    """All kernels of one architecture."""
    found = []
    for part in cuobjdump(library, "-sass", "-arch", arch).split("Function : ")[1:]:
        name, _, body = part.partition("\n")
        code = []
        for match in LINE.finditer(body):
            text = match["code"].strip()
            branch = re.search(r"\bBRA\b.*?`?\(?(?:\.L_x_\d+|0x(?P<to>[0-9a-f]+))", text)
            target = int(branch["to"], 16) if branch and branch["to"] else None
            code.append(Instruction(int(match["at"], 16), text, target))
        found.append(Kernel(name.strip(), arch, tuple(code)))
    return found


def registers(library: Path, arch: str) -> dict[str, int]:
    """Registers of a thread of every kernel of one architecture."""
    usage = cuobjdump(library, "-res-usage", "-arch", arch)
    found = re.findall(r"Function (\S+):\s+REG:(\d+)", usage)
    return {name: int(count) for name, count in found}
