# SPDX-License-Identifier: Apache-2.0
"""The checks of tests/gpu/run. A check raises AssertionError where a kernel is wrong, and Absent
where this machine or these packages lack what it needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import activation_reference as reference
import precision
import torch
from precision import BF16, FP16, FP32

# The checks but those of streams and memory hold for any device with kernels.
DEVICE = "cuda"

DTYPES = (FP32, FP16, BF16)
HALVES = (FP16, BF16)
THRESHOLD = 0.25
WIDTHS = (1, 2, 7, 8, 63, 64, 512, 1023, 4096, 13824, 65537)
HEIGHTS = (0, 1, 7, 83, 2048)
LARGEST_CASE = 1 << 24
# Relative error of a gradient in the 2-norm against fp64, for N(0, 1) inputs.
BACKWARD = {FP32: 1e-5, BF16: 6e-3, FP16: 8e-4}
# compute-sanitizer is slow: it runs these checks on small inputs.
SANITIZED = ("numerics", "layouts", "backward", "layer_norm", "relu")
SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")


class Absent(Exception):
    """What the check needs is not there; the text says what."""


@dataclass(frozen=True)
class Context:
    """What a check works with."""

    packages: dict[str, ModuleType]
    ops: tuple[str, ...]
    is_quick: bool

    def package(self, name: str) -> ModuleType:
        """A loaded package, or Absent."""
        if name not in self.packages:
            raise Absent(f"package {name} was not asked for or is not there")
        return self.packages[name]

    def forward(self, op: str, x: torch.Tensor) -> torch.Tensor:
        """The op into an output poisoned with NaN."""
        cols = x.shape[-1] // 2 if op in reference.GATED else x.shape[-1]
        out = torch.full((*x.shape[:-1], cols), float("nan"), dtype=x.dtype, device=x.device)
        self.call(op, out, x)
        return out

    def call(self, op: str, out: torch.Tensor, x: torch.Tensor) -> None:
        """The raw op."""
        extra = (THRESHOLD,) if op == "fatrelu_and_mul" else ()
        getattr(self.package("activation").ops, op)(out, x, *extra)


def same(result: torch.Tensor, expected: torch.Tensor) -> bool:
    """Bit equality; one NaN is as good as another."""
    return bool(precision.same_bits(result, expected).all())


def device_patterns(dtype: torch.dtype) -> torch.Tensor:
    """Every value of a 16-bit dtype on the device."""
    return precision.all_patterns(dtype).to(DEVICE)


def numerics(context: Context) -> None:
    """Relative error against fp64 for N(0, 1) inputs, every op and dtype."""
    rows = 16 if context.is_quick else 512
    for op in context.ops:
        for dtype in DTYPES:
            x = torch.randn(rows, 4096, device=DEVICE).to(dtype)
            if op in reference.SINGLE_ROUNDING:
                expected, bounds = reference.exact(op, x), precision.SINGLE_ROUNDING
            elif op in reference.STEPWISE:
                expected = reference.stepwise(op, x.double(), lambda value: value)
                bounds = precision.STEPWISE_OR_GATED
            else:
                expected, bounds = reference.exact_gated(op, x), precision.STEPWISE_OR_GATED
            error = precision.relative_error(context.forward(op, x), expected)
            assert error <= bounds[dtype], f"{op} {dtype}: {error:.2e} > {bounds[dtype]:.2e}"


def exhaustive(context: Context) -> None:
    """All 65,536 inputs of both 16-bit dtypes: bit-equal to eager, or the op's own bound."""
    for op in context.ops:
        if op not in reference.UNARY:
            continue
        for dtype in HALVES:
            x = device_patterns(dtype)
            result, eager = context.forward(op, x), reference.eager(op, x)
            if op in reference.STEPWISE:
                by_steps = reference.stepwise(op, x, reference.rounding_to(dtype))
                share = precision.same_bits(result, by_steps).float().mean().item()
                assert share >= 0.999, f"{op} {dtype}: {share:.4%} as by steps"
                absolute, relative = precision.UPSTREAM[dtype]
                torch.testing.assert_close(
                    result, eager, atol=absolute, rtol=relative, equal_nan=True
                )
            elif op == "gelu_quick":
                finite = x.isfinite()
                errors = precision.ulp_errors(result[finite], reference.exact(op, x)[finite])
                assert errors.max() <= 1.0, f"{op} {dtype}: {errors.max():.2f} ulp"
            else:
                wrong = x[~precision.same_bits(result, eager)]
                assert wrong.numel() == 0, (
                    f"{op} {dtype}: {wrong.numel()} inputs differ from eager, first {wrong[:4]}"
                )


def gated_equality(context: Context) -> None:
    """Gated ops are bit-equal to the eager composition in every dtype."""
    for op in context.ops:
        if op not in reference.GATED:
            continue
        for dtype in DTYPES:
            if dtype in HALVES:
                first = device_patterns(dtype)
                x = torch.stack([first, first[torch.randperm(65536, device=DEVICE)]])
                x = x.reshape(1, -1)
            else:
                x = torch.randn(4096, 8192, device=DEVICE) * 4
            result, eager = context.forward(op, x), reference.eager(op, x)
            wrong = int((~precision.same_bits(result, eager)).sum())
            assert wrong == 0, f"{op} {dtype}: {wrong} of {result.numel()} differ from eager"


def layouts(context: Context) -> None:
    """Every width, height and layout gives the bits of the contiguous row, inside out."""
    widths = WIDTHS[:6] if context.is_quick else WIDTHS
    for op in context.ops:
        parts = 2 if op in reference.GATED else 1
        for dtype in DTYPES:
            for cols in widths:
                row = torch.randn(1, parts * cols, device=DEVICE).to(dtype)
                expected = context.forward(op, row)
                for rows in HEIGHTS:
                    if rows * cols <= LARGEST_CASE:
                        _check_layouts(context, op, row, expected, rows)


def _check_layouts(
    context: Context, op: str, row: torch.Tensor, expected: torch.Tensor, rows: int
) -> None:
    for in_pad, out_pad, offset in ((0, 0, 0), (8, 16, 0), (3, 5, 1), (8, 8, 1), (1, 0, 0)):
        x = _slice_of(row.expand(rows, -1), in_pad, offset)
        width = expected.shape[-1]
        buffer = torch.full((rows * (width + out_pad) + 64,), 77.0, device=DEVICE).to(row.dtype)
        out = buffer[offset : offset + rows * (width + out_pad)]
        out = out.view(rows, width + out_pad)[:, :width]
        before = buffer.clone()
        context.call(op, out, x)
        what = f"{op} {row.dtype} {rows}x{width} pads {in_pad}, {out_pad} offset {offset}"
        assert same(out, expected.expand(rows, -1)), what
        out.fill_(77.0)
        assert torch.equal(buffer, before), f"{what}: wrote beside out"


def _slice_of(values: torch.Tensor, pad: int, offset: int) -> torch.Tensor:
    rows, width = values.shape
    flat = torch.zeros(rows * (width + pad) + 64, device=DEVICE, dtype=values.dtype)
    view = flat[offset : offset + rows * (width + pad)].view(rows, width + pad)[:, :width]
    view.copy_(values)
    return view


def determinism(context: Context) -> None:
    """Twenty repeats are bit-equal, and a row alone gives the bits it gives in a batch of 4096."""
    for op in context.ops:
        for dtype in DTYPES:
            x = torch.randn(4096, 1030, device=DEVICE).to(dtype)
            expected = context.forward(op, x)
            for _ in range(20):
                assert same(context.forward(op, x), expected), f"{op} {dtype}: repeats differ"
            for index in (0, 1, 77, 4095):
                alone = context.forward(op, x[index : index + 1])
                assert same(alone, expected[index : index + 1]), f"{op} {dtype}: row {index}"


def in_place(context: Context) -> None:
    """A unary op into its own input gives the bits of a separate output."""
    for op in context.ops:
        if op in reference.UNARY:
            for dtype in DTYPES:
                x = torch.cat([torch.randn(100_003, device=DEVICE), torch.tensor([1e4]).to(DEVICE)])
                x = x.to(dtype)
                expected = context.forward(op, x)
                context.call(op, x, x)
                assert same(x, expected), f"{op} {dtype}"


def huge(context: Context) -> None:
    """2^31 + 64 elements of bfloat16: the first and the last of them are right."""
    free = torch.cuda.mem_get_info()[0]
    if free < 20 << 30:
        raise Absent(f"{free >> 30} GiB of free device memory, 20 are needed")
    for op in context.ops[:1] if context.is_quick else context.ops:
        elements = 2**31 + 64
        shape = (2, elements) if op in reference.GATED else (1, elements)
        x = torch.empty(shape, dtype=BF16, device=DEVICE).view(1, -1)
        edges = torch.randn(1 << 16, device=DEVICE).to(BF16)
        x.zero_()
        halves = x.view(shape)
        for at in (0, elements - edges.numel()):
            halves[:, at : at + edges.numel()] = edges
        out = torch.empty(1, elements, dtype=BF16, device=DEVICE)
        context.call(op, out, x)
        small = edges.repeat(1, shape[0])
        expected = context.forward(op, small)
        assert same(out[:, : edges.numel()], expected), f"{op}: first elements"
        assert same(out[:, -edges.numel() :], expected), f"{op}: last elements"
        del x, out, halves
        torch.cuda.empty_cache()


def streams(context: Context) -> None:
    """Work goes to the current stream: it waits for a slow producer there."""
    side = torch.cuda.Stream()
    for op in context.ops:
        source = torch.randn(512, 4096, device=DEVICE).to(BF16)
        expected = context.forward(op, source)
        x = torch.zeros_like(source)
        out = torch.zeros_like(expected)
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(20_000_000)
            x.copy_(source)
            context.call(op, out, x)
        side.synchronize()
        assert same(out, expected), op


def graphs(context: Context) -> None:
    """A captured call replays on changed inputs."""
    for op in context.ops:
        x = torch.randn(64, 4098, device=DEVICE).to(BF16)
        out = torch.zeros_like(context.forward(op, x))
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            context.call(op, out, x)
        for _ in range(3):
            x.copy_(torch.randn(64, 4098, device=DEVICE))
            graph.replay()
            assert same(out, context.forward(op, x)), op


def threads(context: Context) -> None:
    """Eight threads on streams of their own get the bits of one."""
    failures: list[str] = []

    def work(op: str, x: torch.Tensor, expected: torch.Tensor) -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(20):
                result = context.forward(op, x)
                stream.synchronize()
                if not same(result, expected):
                    failures.append(op)

    pairs = []
    for index in range(8):
        op = context.ops[index % len(context.ops)]
        x = torch.randn(257, 1026, device=DEVICE).to(DTYPES[index % 3])
        pairs.append((op, x, context.forward(op, x)))
    torch.cuda.synchronize()
    workers = [threading.Thread(target=work, args=pair) for pair in pairs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures


def second_device(context: Context) -> None:
    """A tensor on cuda:1 is computed there while cuda:0 is current."""
    if torch.cuda.device_count() < 2:
        raise Absent("a second GPU")
    for op in context.ops:
        x = torch.randn(64, 4098, device="cuda:0").to(BF16)
        there = context.forward(op, x.to("cuda:1"))
        assert same(there.to("cuda:0"), context.forward(op, x)), op


def bad_arguments(context: Context) -> None:
    """Bad arguments raise with the name of the op and the argument, and nothing is launched."""
    x = torch.randn(4, 8, device=DEVICE)
    for op in context.ops:
        for out in (torch.empty(4, 5, device=DEVICE), torch.empty(4, 8, device=DEVICE).half()):
            try:
                context.call(op, out, x)
            except RuntimeError as error:
                assert f"activation.{op}: out " in str(error) or "device" in str(error), str(error)
            else:
                raise AssertionError(f"{op}: took {out.shape} {out.dtype} on {out.device}")


def backward(context: Context) -> None:
    """Every op that has a backward op, against the gradient of the formula in fp64 on CPU."""
    ops = context.package("activation").ops
    present = [op for op in context.ops if _has_op(ops, f"{op}_backward")]
    if not present:
        raise Absent("activation has no backward ops")
    for op in present:
        for dtype in DTYPES:
            rows = 16 if context.is_quick else 256
            x = torch.randn(rows, 2050, device=DEVICE).to(dtype)
            grad = torch.randn_like(context.forward(op, x))
            kept = grad.clone()
            result = torch.full_like(x, float("nan"))
            extra = (THRESHOLD,) if op == "fatrelu_and_mul" else ()
            getattr(ops, f"{op}_backward")(result, grad, x, *extra)
            assert torch.equal(grad, kept), f"{op} {dtype}: grad_out was written"
            leaf = x.double().cpu().requires_grad_()
            reference.eager(op, leaf).backward(grad.double().cpu())
            assert leaf.grad is not None
            error = precision.relative_error(result.cpu(), leaf.grad)
            assert error <= BACKWARD[dtype], f"{op} {dtype}: {error:.2e} > {BACKWARD[dtype]:.2e}"


def layer_norm(context: Context) -> None:
    """layer_norm against fp64, with and without parameters, odd widths and pitches."""
    ops = context.package("layer-norm").ops
    for dtype in DTYPES:
        for cols in (1, 7, 64, 1023, 4096, 65537):
            x = torch.randn(33, cols + 3, device=DEVICE).to(dtype)[:, 1 : cols + 1]
            weight, bias = torch.randn(2, cols, device=DEVICE).to(dtype)
            for parameters in ((weight, bias), (weight, None), (None, None)):
                out = torch.full((33, cols), float("nan"), dtype=dtype, device=DEVICE)
                ops.layer_norm(out, x, *parameters, 1e-5)
                wide = [None if p is None else p.double() for p in parameters]
                expected = torch.nn.functional.layer_norm(x.double(), (cols,), *wide, eps=1e-5)
                if not bool(expected.any()):
                    assert not bool(out.any())
                    continue
                error = precision.relative_error(out, expected)
                assert error <= precision.LAYER_NORM[dtype], f"{dtype} {cols}: {error:.2e}"


def relu(context: Context) -> None:
    """relu and its backward are exact on every 16-bit value, NaN included."""
    ops = context.package("relu").ops
    for dtype in HALVES:
        x = device_patterns(dtype)
        out = torch.empty_like(x)
        ops.relu(out, x)
        assert bool((precision.same_bits(out, torch.relu(x)) | ((out == 0) & (x <= 0))).all())
        if _has_op(ops, "relu_backward"):
            grad, result = torch.randn_like(x), torch.empty_like(x)
            ops.relu_backward(result, grad, x)
            keeps = (x > 0) | x.isnan()
            assert bool((result[keeps] == grad[keeps]).all())
            assert not bool(result[~keeps].any())


def sanitizer(context: Context) -> None:
    """compute-sanitizer finds nothing in small runs of the checks that launch most."""
    from shutil import which

    program = which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(program).is_file():
        raise Absent("compute-sanitizer")
    if os.environ.get("KERNELHUB_GPU_CHECKS_SANITIZED"):
        raise Absent("it runs already")
    driver = Path(__file__).with_name("driver.py")
    wanted = [flag for op in context.ops for flag in ("--op", op)]
    for tool in SANITIZERS:
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, str(driver)]
        command += ["--quick", *(f for name in SANITIZED for f in ("--check", name)), *wanted]
        environment = os.environ | {
            "KERNELHUB_GPU_CHECKS_SANITIZED": tool,
            "PYTORCH_NO_CUDA_MEMORY_CACHING": "1",
        }
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{tool}: {(done.stdout + done.stderr)[-2000:]}"


def _has_op(ops: object, name: str) -> bool:
    try:
        return callable(getattr(ops, name))
    except AttributeError:
        return False


ALL: tuple[Callable[[Context], None], ...] = (
    *(numerics, exhaustive, gated_equality, layouts, determinism, in_place, huge, streams, graphs),
    *(threads, second_device, bad_arguments, backward, layer_norm, relu, sanitizer),
)
