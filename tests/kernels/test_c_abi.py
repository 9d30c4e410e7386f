# SPDX-License-Identifier: Apache-2.0
"""The tvm-ffi builds: same values as the torch builds, same checks, no torch."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType

import activation_reference as reference
import numpy as np
import pytest
import torch
import tvm_ffi


def library(package: str) -> Path:
    root = os.environ.get("KERNELHUB_PACKAGES_DIR")
    if root is None:
        pytest.skip("KERNELHUB_PACKAGES_DIR names no folder of built packages")
    (found,) = (Path(root) / package / "build").glob("tvm-ffi*-cpu-*/*.so")
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("op", reference.ALL)
def test_activation_gives_the_bits_of_the_torch_build(
    load_package: Callable[[str], ModuleType], op: str, dtype: torch.dtype
) -> None:
    module = tvm_ffi.load_module(str(library("activation")))
    x = torch.randn(33, 2050).to(dtype)[:, 1:2049]
    cols = 1024 if op in reference.GATED else 2048
    extra = (0.25,) if op == "fatrelu_and_mul" else ()
    expected = torch.empty(33, cols, dtype=dtype)
    getattr(load_package("activation"), op)(expected, x, *extra)
    out = torch.empty_like(expected)
    getattr(module, op)(out, x, *extra)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("op", reference.ALL)
def test_the_gradients_are_those_of_the_torch_build(
    load_package: Callable[[str], ModuleType], op: str
) -> None:
    module = tvm_ffi.load_module(str(library("activation")))
    x = torch.randn(33, 2048).bfloat16()
    grad = torch.randn(33, 1024 if op in reference.GATED else 2048).bfloat16()
    extra = (0.25,) if op == "fatrelu_and_mul" else ()
    expected, out = torch.empty_like(x), torch.empty_like(x)
    getattr(load_package("activation").ops, f"{op}_backward")(expected, grad, x, *extra)
    getattr(module, f"{op}_backward")(out, grad, x, *extra)
    assert torch.equal(out, expected)


def test_relu_and_its_gradient_are_those_of_torch() -> None:
    module = tvm_ffi.load_module(str(library("relu")))
    x, grad = torch.randn(2, 33, 2050)[:, :, 1:2049]
    out = torch.empty(33, 2048)
    module.relu(out, x)
    assert torch.equal(out, torch.relu(x))
    module.relu_backward(out, grad, x)
    assert torch.equal(out, torch.where(x > 0, grad, 0.0))
    with pytest.raises(RuntimeError, match=r"relu\.relu_backward: grad_out shape: expected "):
        module.relu_backward(out, grad[:3], x)


@pytest.mark.parametrize("has_parameters", [True, False])
def test_layer_norm_gives_the_bits_of_the_torch_build(
    load_package: Callable[[str], ModuleType], has_parameters: bool
) -> None:
    module = tvm_ffi.load_module(str(library("layer-norm")))
    x = torch.randn(64, 384)
    weight, bias = torch.randn(2, 384) if has_parameters else (None, None)
    expected = load_package("layer-norm").layer_norm(torch.empty_like(x), x, weight, bias, 1e-12)
    out = torch.empty_like(x)
    module.layer_norm(out, x, weight, bias, 1e-12)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_rotary_gives_the_bits_of_the_torch_build(
    load_package: Callable[[str], ModuleType], dtype: torch.dtype
) -> None:
    module = tvm_ffi.load_module(str(library("rotary")))
    ops = load_package("rotary").ops
    q, k = torch.randn(2, 9, 4, 12).to(dtype), torch.randn(2, 9, 1, 12).to(dtype)
    cos, sin = torch.randn(2, 20, 6)
    positions = torch.randint(0, 20, (2, 9))
    options = (cos, sin, positions, 12, True, False, 2)
    expected = torch.empty_like(q), torch.empty_like(k)
    results = torch.empty_like(q), torch.empty_like(k)
    ops.rotary_embedding_out(*expected, q, k, *options)
    module.rotary_embedding_out(*results, q, k, *options)
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))
    tables = (cos[:9], sin[:9], True, 1)
    ops.apply_rotary_transformers(*expected, q, k, *tables)
    module.apply_rotary_transformers(*results, q, k, *tables)
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))
    ops.rotary_embedding(q, None, *options)
    module.rotary_embedding(results[0].copy_(q), None, *options[:5], True, 2)
    halves = [x.clone() for x in q.chunk(2, dim=-1)]
    module.apply_rotary(*halves, cos[0], sin[0], *halves, False)
    ops.apply_rotary(*q.chunk(2, dim=-1), cos[0], sin[0], *q.chunk(2, dim=-1), False)
    assert torch.equal(torch.cat(halves, dim=-1), q)
    with pytest.raises(RuntimeError, match=r"rotary\.rotary_embedding: positions value: expected"):
        module.rotary_embedding(q, None, cos, sin, positions + 20, 12, False, False, 2)


def test_norms_and_their_gradients_are_those_of_the_torch_build(
    load_package: Callable[[str], ModuleType],
) -> None:
    module = tvm_ffi.load_module(str(library("layer-norm")))
    ops = load_package("layer-norm").ops
    x, grad = torch.randn(2, 64, 386)[:, :, 1:385]
    weight = torch.randn(384)
    calls = {
        "rms_norm": ([(64, 384)], (x, weight)),
        "layer_norm_backward": ([(64, 384), (384,), (384,)], (grad, x, weight)),
        "rms_norm_backward": ([(64, 384), (384,)], (grad, x, None)),
    }
    for op, (shapes, inputs) in calls.items():
        results = [[torch.full(shape, float("nan")) for shape in shapes] for _ in range(2)]
        getattr(ops, op)(*results[0], *inputs, 1e-6)
        getattr(module, op)(*results[1], *inputs, 1e-6)
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    module.layer_norm_backward(None, None, results[0][1], grad, x, None, 1e-6)
    torch.testing.assert_close(results[0][1], grad.sum(0))
    with pytest.raises(RuntimeError, match=r"layer_norm_backward: grad_out shape: expected \["):
        module.layer_norm_backward(None, None, None, grad[:3], x, None, 1e-6)


@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.bfloat16])
def test_rmsnorm_gives_the_bits_of_the_torch_build(
    load_package: Callable[[str], ModuleType], weight_dtype: torch.dtype
) -> None:
    module = tvm_ffi.load_module(str(library("rmsnorm")))
    package = load_package("rmsnorm")
    x, residual = torch.randn(2, 64, 385).bfloat16()
    weight = torch.randn(385).to(weight_dtype)
    expected, expected_rstd = package.ops.rms_norm_fwd(x, weight, 1e-6, 0.5, "none")
    out, rstd = torch.empty_like(expected), torch.empty_like(expected_rstd)
    module.rms_norm_fwd_out(out, rstd, x, weight, 1e-6, 0.5, "none")
    assert torch.equal(out, expected)
    assert torch.equal(rstd, expected_rstd)
    grads = package.ops.rms_norm_bwd(out, x, weight, rstd, 1e-6, 0.5, True, True)
    workspace = torch.empty(module.rms_norm_bwd_workspace(x), dtype=torch.uint8)
    results = [torch.empty_like(grad) for grad in grads]
    module.rms_norm_bwd_out(*results, workspace, out, x, weight, rstd, 1e-6, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(results, grads, strict=True))
    with pytest.raises(
        RuntimeError, match=r"rmsnorm\.rms_norm_bwd_out: workspace memory: expected"
    ):
        module.rms_norm_bwd_out(*results, workspace[:-1], out, x, weight, rstd, 1e-6, 0.5)
    for name in ("rms_norm", "gemma_rms_norm"):
        expected = getattr(package.ops, name)
        dtype = weight_dtype if name == "rms_norm" else torch.bfloat16
        mine, theirs = torch.empty(2, 64, 385, dtype=dtype)
        expected(theirs, x, weight, 1e-6)
        getattr(module, name)(mine, x, weight, 1e-6)
        assert torch.equal(mine, theirs)
    total = x + residual
    package.ops.rms_norm(theirs := torch.empty_like(x), total, weight.bfloat16(), 1e-6)
    module.fused_add_rms_norm(x, residual, weight.bfloat16(), 1e-6)
    assert torch.equal(residual, total)
    assert torch.equal(x, theirs)


@pytest.mark.parametrize(
    ("op", "shape", "text"),
    [
        ("silu", (2, 3), "activation.silu: out shape: expected [2, 4], got [2, 3]"),
        ("gelu_and_mul", (2, 4), "activation.gelu_and_mul: out shape: expected [2, 2], got [2, 4]"),
    ],
)
def test_bad_arguments_are_named(op: str, shape: tuple[int, int], text: str) -> None:
    module = tvm_ffi.load_module(str(library("activation")))
    with pytest.raises(RuntimeError) as failure:
        getattr(module, op)(torch.empty(shape), torch.empty(2, 4))
    assert str(failure.value).splitlines()[0] == text


def test_rows_may_lie_in_front_of_each_other() -> None:
    """torch has no negative strides, DLPack does."""
    module = tvm_ffi.load_module(str(library("activation")))
    memory = np.random.default_rng(0).standard_normal((8, 64), dtype=np.float32)
    expected = torch.nn.functional.silu(torch.from_numpy(memory[3::-1].copy()))
    upwards = tvm_ffi.from_dlpack(memory[3::-1])
    for rows in (slice(0, 4), slice(2, 6), slice(3, 7)):
        with pytest.raises(RuntimeError, match=r"activation\.silu: out memory: expected disjoint"):
            module.silu(tvm_ffi.from_dlpack(memory[rows]), upwards)
    module.silu(tvm_ffi.from_dlpack(memory[4:]), upwards)
    torch.testing.assert_close(torch.from_numpy(memory[4:]), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(RuntimeError, match=r"silu: out row stride: expected at least 64, got -64"):
        module.silu(upwards, tvm_ffi.from_dlpack(memory[4:]))


@pytest.mark.parametrize("op", ["relu", "silu"])
def test_rows_beside_rows_of_another_pitch_are_apart(op: str) -> None:
    module = tvm_ffi.load_module(str(library("relu" if op == "relu" else "activation")))
    memory = torch.randn(3 * 64 * 5000)
    x = memory.view(-1, 96)[:9000, :16]
    out = memory.view(-1, 64)[:9000, 16:32]
    expected = getattr(torch, op)(x) if op == "relu" else torch.nn.functional.silu(x)
    getattr(module, op)(out, x)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(RuntimeError, match="out memory: expected"):
        getattr(module, op)(memory.view(-1, 64)[:9000, 17:33], x)


def test_rows_are_refused_just_where_elements_are_shared() -> None:
    module = tvm_ffi.load_module(str(library("relu")))
    random, memory = Random(5), torch.zeros(256)
    refused = 0
    for _ in range(5000):
        rows, cols = random.randint(1, 8), random.randint(1, 6)
        pitches = random.randint(cols, 14), random.randint(0, 14)
        starts = random.randrange(120), random.randrange(120)
        out, x = (
            memory.as_strided((rows, cols), (pitch, 1), start)
            for pitch, start in zip(pitches, starts, strict=True)
        )
        places = [
            {start + row * pitch + col for row in range(rows) for col in range(cols)}
            for pitch, start in zip(pitches, starts, strict=True)
        ]
        is_same = starts[0] == starts[1] and (rows == 1 or pitches[0] == pitches[1])
        if is_same or places[0].isdisjoint(places[1]):
            module.relu(out, x)
            continue
        refused += 1
        with pytest.raises(RuntimeError, match="out memory: expected disjoint from input or"):
            module.relu(out, x)
    assert 500 < refused < 4500


def test_a_tensor_transposed_in_its_own_memory_is_refused() -> None:
    module = tvm_ffi.load_module(str(library("rotary")))
    x1, x2 = torch.randn(2, 8, 8, 4)
    cos, sin = torch.randn(2, 4)
    with pytest.raises(RuntimeError, match=r"out1 memory: .* got partial overlap"):
        module.apply_rotary(x1, x2, cos, sin, x1.transpose(0, 1), x2, False)


def test_a_wrong_argument_count_is_a_type_error() -> None:
    module = tvm_ffi.load_module(str(library("activation")))
    with pytest.raises(TypeError, match="silu: expected 2 arguments, found 1"):
        module.silu(torch.empty(4))


@pytest.mark.parametrize("package", ["activation", "layer-norm", "relu", "rmsnorm", "rotary"])
def test_the_library_needs_the_c_and_cxx_runtime_only(package: str) -> None:
    listing = subprocess.run(
        ["readelf", "-d", str(library(package))], capture_output=True, text=True, check=True
    ).stdout
    needed = {line.split("[")[1].rstrip("]") for line in listing.splitlines() if "NEEDED" in line}
    assert needed <= {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1"}
