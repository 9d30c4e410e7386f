# SPDX-License-Identifier: Apache-2.0
"""Times of device work: events around calls, replays of graphs, and the wall clock of the host."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence

import torch

Call = Callable[[], object]

WARM_UP_S = 0.05
TURN_S = 0.03
GRAPH_LAUNCHES = 100
FLUSHED_CALLS = 50

_broken_captures: list[BaseException] = []


def buffer_sets(bytes_per_set: int) -> int:
    """How many sets of buffers make a working set of four times the L2 cache."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return max(1, math.ceil(4 * cache / bytes_per_set))


def event_turn(calls: Sequence[Call], turn_s: float = TURN_S) -> Callable[[], list[float]]:
    """A turn for protocol.timing: microseconds of single calls, each on the next set of buffers."""
    rotating = itertools.cycle(calls)
    _warm_up(rotating)
    once = _mean_us(rotating, 5)
    count = max(5, min(200, int(turn_s * 1e6 / once)))

    def turn() -> list[float]:
        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        events[0].record()
        for event in events[1:]:
            next(rotating)()
            event.record()
        torch.cuda.synchronize()
        pairs = itertools.pairwise(events)
        return [1e3 * start.elapsed_time(stop) for start, stop in pairs]

    return turn


def flushed_turn(call: Call) -> Callable[[], list[float]]:
    """A turn of calls that find none of their tensors in the L2 cache: microseconds of each."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    other = torch.empty(2 * cache, dtype=torch.uint8, device="cuda")

    def turn() -> list[float]:
        pairs = []
        for _ in range(FLUSHED_CALLS):
            other.zero_()
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            stop.record()
            pairs.append((start, stop))
        torch.cuda.synchronize()
        return [1e3 * start.elapsed_time(stop) for start, stop in pairs]

    return turn


@functools.cache
def capture_stream() -> torch.cuda.Stream:
    """The stream on which graphs are captured.

    Calls are to be bound there too: a gradient is computed on the stream of its forward pass.
    """
    return torch.cuda.Stream()


def captures_are_clean() -> bool:
    """Whether every capture in this process ended well.

    After one that did not, torch's allocator takes it for still under way.
    """
    return not _broken_captures


def graph_turn(calls: Sequence[Call]) -> Callable[[], list[float]]:
    """A turn that replays GRAPH_LAUNCHES captured calls: microseconds of one of them."""
    rotating = itertools.cycle(calls)
    torch.cuda.synchronize()
    stream = capture_stream()
    with torch.cuda.stream(stream):
        for _ in range(3 * len(calls)):
            next(rotating)()
    stream.synchronize()
    graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(GRAPH_LAUNCHES):
                next(rotating)()
    except BaseException as error:
        _broken_captures.append(error)
        raise
    finally:
        # torch leaves the stream of a capture that it can't end current.
        torch.cuda.set_stream(before)

    def turn() -> list[float]:
        return [_mean_us(itertools.repeat(graph.replay), 1) / GRAPH_LAUNCHES for _ in range(20)]

    return turn


def host_turn(call: Call) -> Callable[[], list[float]]:
    """A turn of wall-clock microseconds that the caller spends in one call."""

    def turn() -> list[float]:
        times = []
        for _ in range(20):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(50):
                call()
            times.append((time.perf_counter() - start) * 1e6 / 50)
        torch.cuda.synchronize()
        return times

    return turn


def _warm_up(rotating: itertools.cycle[Call]) -> None:
    deadline = time.monotonic() + WARM_UP_S
    while time.monotonic() < deadline:
        next(rotating)()
        torch.cuda.synchronize()


def _mean_us(calls: itertools.cycle[Call] | itertools.repeat[Call], count: int) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(count):
        next(calls)()
    stop.record()
    torch.cuda.synchronize()
    return 1e3 * start.elapsed_time(stop) / count
