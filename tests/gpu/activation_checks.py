# SPDX-License-Identifier: Apache-2.0
"""The checks of the activation package."""

from __future__ import annotations

import math
import threading

import activation_reference as reference
import precision
import torch
from checks import (
    DTYPES,
    HALVES,
    WITHOUT_SHARED_MEMORY,
    Absent,
    Context,
    Family,
    has_op,
    patterns,
    same,
)
from precision import BF16, FP16, FP32

THRESHOLD = 0.25
WIDTHS = (1, 2, 7, 8, 63, 64, 512, 1023, 4096, 13824, 65537)
HEIGHTS = (0, 1, 7, 83, 2048)
QUICK_WIDTHS, QUICK_HEIGHTS = (1, 7, 64, 1023), (0, 1, 83)
LARGEST_CASE = 1 << 24
# Bit patterns from one float32 that is tried to the next: four million of them are.
SWEEP_STEP = 1009
# Relative error of a gradient in the 2-norm against fp64, for N(0, 1) inputs.
BACKWARD = {FP32: 1e-5, BF16: 6e-3, FP16: 8e-4}


def forward(context: Context, op: str, x: torch.Tensor) -> torch.Tensor:
    """The op into an output poisoned with NaN."""
    cols = x.shape[-1] // 2 if op in reference.GATED else x.shape[-1]
    out = torch.full((*x.shape[:-1], cols), float("nan"), dtype=x.dtype, device=x.device)
    call(context, op, out, x)
    return out


def call(context: Context, op: str, out: torch.Tensor, x: torch.Tensor) -> None:
    """The raw op."""
    extra = (THRESHOLD,) if op == "fatrelu_and_mul" else ()
    getattr(context.package("activation").ops, op)(out, x, *extra)


def numerics(context: Context) -> None:
    """Relative error against fp64 for N(0, 1) inputs, every op and dtype."""
    rows = 16 if context.is_quick else 512
    for op in context.ops:
        for dtype in DTYPES:
            x = torch.randn(rows, 4096, device=context.device).to(dtype)
            if op in reference.SINGLE_ROUNDING:
                expected, bounds = reference.exact(op, x), precision.SINGLE_ROUNDING
            elif op in reference.STEPWISE:
                expected = reference.stepwise(op, x.double(), lambda value: value)
                bounds = precision.STEPWISE_OR_GATED
            else:
                expected, bounds = reference.exact_gated(op, x), precision.STEPWISE_OR_GATED
            error = precision.relative_error(forward(context, op, x), expected)
            assert error <= bounds[dtype], f"{op} {dtype}: {error:.2e} > {bounds[dtype]:.2e}"


def exhaustive(context: Context) -> None:
    """All 65,536 inputs of both 16-bit dtypes: bit-equal to eager, or the op's own bound."""
    for op in context.ops:
        if op not in reference.UNARY:
            continue
        for dtype in HALVES:
            x = patterns(context, dtype)
            result, eager = forward(context, op, x), reference.eager(op, x)
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
                first = patterns(context, dtype)
                x = torch.stack([first, first[torch.randperm(65536, device=context.device)]])
                x = x.reshape(1, -1)
            else:
                x = torch.randn(4096, 8192, device=context.device) * 4
            result, eager = forward(context, op, x), reference.eager(op, x)
            wrong = int((~precision.same_bits(result, eager)).sum())
            assert wrong == 0, f"{op} {dtype}: {wrong} of {result.numel()} differ from eager"


def layouts(context: Context) -> None:
    """Every width, height and layout gives the bits of the contiguous row, inside out."""
    widths, heights = (QUICK_WIDTHS, QUICK_HEIGHTS) if context.is_quick else (WIDTHS, HEIGHTS)
    for op in context.ops:
        parts = 2 if op in reference.GATED else 1
        for dtype in DTYPES:
            for cols in widths:
                row = torch.randn(1, parts * cols, device=context.device).to(dtype)
                expected = forward(context, op, row)
                for rows in heights:
                    if rows * cols <= LARGEST_CASE:
                        _check_layouts(context, op, row, expected, rows)


def _check_layouts(
    context: Context, op: str, row: torch.Tensor, expected: torch.Tensor, rows: int
) -> None:
    for in_pad, out_pad, offset in ((0, 0, 0), (8, 16, 0), (3, 5, 1), (8, 8, 1), (1, 0, 0)):
        x = _slice_of(row.expand(rows, -1), in_pad, offset)
        width = expected.shape[-1]
        buffer = torch.full((rows * (width + out_pad) + 64,), 77.0, device=context.device).to(
            row.dtype
        )
        out = buffer[offset : offset + rows * (width + out_pad)]
        out = out.view(rows, width + out_pad)[:, :width]
        before = buffer.clone()
        call(context, op, out, x)
        what = f"{op} {row.dtype} {rows}x{width} pads {in_pad}, {out_pad} offset {offset}"
        assert same(out, expected.expand(rows, -1)), what
        out.fill_(77.0)
        assert torch.equal(buffer, before), f"{what}: wrote beside out"


def _slice_of(values: torch.Tensor, pad: int, offset: int) -> torch.Tensor:
    rows, width = values.shape
    flat = torch.zeros(rows * (width + pad) + 64, device=values.device, dtype=values.dtype)
    view = flat[offset : offset + rows * (width + pad)].view(rows, width + pad)[:, :width]
    view.copy_(values)
    return view


def determinism(context: Context) -> None:
    """Twenty repeats are bit-equal, and a row alone gives the bits it gives in a batch of 4096."""
    for op in context.ops:
        for dtype in DTYPES:
            x = torch.randn(4096, 1030, device=context.device).to(dtype)
            expected = forward(context, op, x)
            for _ in range(20):
                assert same(forward(context, op, x), expected), f"{op} {dtype}: repeats differ"
            for index in (0, 1, 77, 4095):
                alone = forward(context, op, x[index : index + 1])
                assert same(alone, expected[index : index + 1]), f"{op} {dtype}: row {index}"


def in_place(context: Context) -> None:
    """A unary op into its own input gives the bits of a separate output."""
    for op in context.ops:
        if op in reference.UNARY:
            for dtype in DTYPES:
                for count in (4, 8, 16, 64, 100, 128, 256, 100_004):
                    x = torch.randn(count, device=context.device)
                    x[-1] = 1e4
                    x = x.to(dtype)
                    expected = forward(context, op, x)
                    call(context, op, x, x)
                    assert same(x, expected), f"{op} {dtype}, {count} elements"


def huge(context: Context) -> None:
    """2^31 + 64 elements of bfloat16: the first and the last of them are right."""
    free = torch.cuda.mem_get_info()[0]
    if free < 20 << 30:
        raise Absent(f"{free >> 30} GiB of free device memory, 20 are needed")
    for op in context.ops[:1] if context.is_quick else context.ops:
        elements = 2**31 + 64
        shape = (2, elements) if op in reference.GATED else (1, elements)
        x = torch.empty(shape, dtype=BF16, device=context.device).view(1, -1)
        edges = torch.randn(1 << 16, device=context.device).to(BF16)
        x.zero_()
        halves = x.view(shape)
        for at in (0, elements - edges.numel()):
            halves[:, at : at + edges.numel()] = edges
        out = torch.empty(1, elements, dtype=BF16, device=context.device)
        call(context, op, out, x)
        small = edges.repeat(1, shape[0])
        expected = forward(context, op, small)
        assert same(out[:, : edges.numel()], expected), f"{op}: first elements"
        assert same(out[:, -edges.numel() :], expected), f"{op}: last elements"
        del x, out, halves
        torch.cuda.empty_cache()


def streams(context: Context) -> None:
    """Work goes to the current stream: it waits for a slow producer there."""
    side = torch.cuda.Stream()
    for op in context.ops:
        source = torch.randn(512, 4096, device=context.device).to(BF16)
        expected = forward(context, op, source)
        x = torch.zeros_like(source)
        out = torch.zeros_like(expected)
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(20_000_000)
            x.copy_(source)
            call(context, op, out, x)
        side.synchronize()
        assert same(out, expected), op


def graphs(context: Context) -> None:
    """A captured call replays on changed inputs."""
    for op in context.ops:
        x = torch.randn(64, 4098, device=context.device).to(BF16)
        out = torch.zeros_like(forward(context, op, x))
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call(context, op, out, x)
        for _ in range(3):
            x.copy_(torch.randn(64, 4098, device=context.device))
            graph.replay()
            assert same(out, forward(context, op, x)), op


def threads(context: Context) -> None:
    """Eight threads on streams of their own get the bits of one."""
    failures: list[str] = []

    def work(op: str, x: torch.Tensor, expected: torch.Tensor) -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(20):
                result = forward(context, op, x)
                stream.synchronize()
                if not same(result, expected):
                    failures.append(op)

    pairs = []
    for index in range(8):
        op = context.ops[index % len(context.ops)]
        x = torch.randn(257, 1026, device=context.device).to(DTYPES[index % 3])
        pairs.append((op, x, forward(context, op, x)))
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
        there = forward(context, op, x.to("cuda:1"))
        assert same(there.to("cuda:0"), forward(context, op, x)), op


def bad_arguments(context: Context) -> None:
    """Bad arguments raise with the name of the op and the argument, and nothing is launched."""
    x = torch.randn(4, 8, device=context.device)
    for op in context.ops:
        for out in (
            torch.empty(4, 5, device=context.device),
            torch.empty(4, 8, device=context.device).half(),
        ):
            try:
                call(context, op, out, x)
            except RuntimeError as error:
                assert f"activation.{op}: out " in str(error) or "device" in str(error), str(error)
            else:
                raise AssertionError(f"{op}: took {out.shape} {out.dtype} on {out.device}")


def backward(context: Context) -> None:
    """Every op that has a backward op, against the gradient of the formula in fp64 on CPU."""
    ops = context.package("activation").ops
    present = [op for op in context.ops if has_op(ops, f"{op}_backward")]
    if not present:
        raise Absent("activation has no backward ops")
    for op in present:
        for dtype in DTYPES:
            rows = 16 if context.is_quick else 256
            x = torch.randn(rows, 2050, device=context.device).to(dtype)
            grad = torch.randn_like(forward(context, op, x))
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


def gelu_gradient(context: Context) -> None:
    """gelu's gradient in float32 over the whole range, and densely where it is neither 0 nor 1:
    the normal distribution and its density are as near to fp64 as their argument allows.
    """
    if "gelu" not in context.ops:
        return
    step = SWEEP_STEP * (17 if context.is_quick else 1)  # odd: every bit of a significand varies
    bits = torch.arange(-(2**31), 2**31, step, device=context.device).to(torch.int32)
    middle = torch.linspace(-15.0, 15.0, 1 << 18, device=context.device)
    x = torch.cat([bits.view(FP32), middle])
    x = x[x.isfinite()].view(1, -1)
    result = torch.full_like(x, float("nan"))
    context.package("activation").ops.gelu_backward(result, torch.ones_like(x), x)
    wide = x.double()
    density = torch.exp(-0.5 * wide * wide) / math.sqrt(2.0 * math.pi)
    tail = 0.5 * torch.erfc(wide.abs() / math.sqrt(2.0))
    exact = torch.where(wide > 0, 1.0 - tail, tail) + wide * density
    # Rounded, x * x moves the density by its own size; smaller than normal, it is flushed.
    near = (16.0 + 2.0 * wide * wide).clamp(max=512.0) * (tail + wide.abs() * density)
    bound = 2.0**-24 * (near + 2.0 * (wide > 0)) + 2.0**-120
    wrong = x[~((result.double() - exact).abs() <= bound)]
    assert wrong.numel() == 0, f"{wrong.numel()} of {x.numel()} inputs, first {wrong[:4].tolist()}"


FAMILY = Family(
    packages=("activation",),
    ops=reference.ALL,
    checks=(
        *(numerics, exhaustive, gated_equality, layouts, determinism, in_place, huge, streams),
        *(graphs, threads, second_device, bad_arguments, backward, gelu_gradient),
    ),
    on_any_device=(
        *(numerics, layouts, determinism, in_place, bad_arguments, backward, gelu_gradient),
    ),
    sanitized=(numerics, layouts, backward),
    sanitizer_tools=WITHOUT_SHARED_MEMORY,
)
