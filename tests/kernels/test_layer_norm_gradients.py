# SPDX-License-Identifier: Apache-2.0
"""Gradients of layer_norm and rms_norm: layouts, autograd, compilation, export, bad arguments."""

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import grid
import layer_norm_reference as reference
import precision
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

EPS = 1e-5
NORMS = pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])


@pytest.fixture(scope="module")
def package(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("layer-norm")


def backward(
    package: ModuleType,
    norm: str,
    grad_out: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor | None,
    grad_x: torch.Tensor | None = None,
) -> list[torch.Tensor]:
    """Gradients of x, weight and, for layer_norm, bias by the raw op."""
    grad_x = torch.full(x.shape, float("nan"), dtype=x.dtype) if grad_x is None else grad_x
    sums = [
        x.new_full((x.shape[-1],), float("nan")) for _ in range(2 if norm == "layer_norm" else 1)
    ]
    getattr(package.ops, f"{norm}_backward")(grad_x, *sums, grad_out, x, weight, EPS)
    return [grad_x, *sums]


def layer(package: ModuleType, norm: str, width: int) -> torch.nn.Module:
    made = package.layers.LayerNorm() if norm == "layer_norm" else package.layers.LlamaRMSNorm()
    made.weight = torch.nn.Parameter(torch.randn(width))
    if norm == "layer_norm":
        made.bias, made.eps = torch.nn.Parameter(torch.randn(width)), EPS
    else:
        made.variance_epsilon = EPS
    return made


@pytest.mark.parametrize("has_weight", [True, False])
@NORMS
def test_gradcheck(package: ModuleType, norm: str, has_weight: bool) -> None:
    x = torch.randn(3, 2, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, dtype=torch.float64, requires_grad=True) if has_weight else None
    bias = torch.randn(7, dtype=torch.float64, requires_grad=True)
    if norm == "rms_norm":
        assert torch.autograd.gradcheck(lambda *a: package.layers.rms_norm(*a, EPS), (x, weight))
    else:
        function = package.layers.layer_norm
        assert torch.autograd.gradcheck(lambda *a: function(*a, EPS), (x, weight, bias))


@NORMS
def test_layers_differentiate_any_layout(package: ModuleType, norm: str) -> None:
    module = layer(package, norm, 8)
    assert module.has_backward
    x = torch.randn(6, 4, 8).transpose(0, 1).requires_grad_()
    result = module(x)
    with torch.no_grad():
        assert torch.equal(result, module(x)), "the graph changes the value"
    result.sum().backward()  # an expanded gradient, stride 0
    wide = x.detach().double().requires_grad_()
    parameters = [p.detach().double().requires_grad_() for p in module.parameters()]
    bias = parameters[1] if len(parameters) == 2 else None
    reference.norm(wide, parameters[0], bias, EPS, norm == "rms_norm").sum().backward()
    torch.testing.assert_close(x.grad.double(), wide.grad, atol=2e-6, rtol=1e-5)
    for parameter, expected in zip(module.parameters(), parameters, strict=True):
        torch.testing.assert_close(parameter.grad.double(), expected.grad, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("norm", "cols", "rows", "layout", "dtype"),
    grid.pairwise(("layer_norm", "rms_norm"), grid.COLS, grid.ROWS, grid.LAYOUTS, grid.DTYPES),
)
def test_no_layout_changes_a_bit_and_nothing_else_is_written(
    package: ModuleType, norm: str, cols: int, rows: int, layout: str, dtype: torch.dtype
) -> None:
    rows = min(rows, 2**21 // cols)
    x, grad = (grid.random_rows(rows, cols, layout, dtype) for _ in range(2))
    before = grad.clone()
    weight = torch.randn(cols).to(dtype)
    grad_x, buffer = grid.placed(rows, cols, layout, dtype)
    strided = backward(package, norm, grad, x, weight, grad_x)
    dense = backward(package, norm, grad.contiguous(), x.contiguous(), weight)
    assert all(torch.equal(a, b) for a, b in zip(strided, dense, strict=True))
    assert torch.equal(grad, before), "grad_out was written"
    if rows:
        alone = backward(package, norm, grad[-1:], x[-1:], weight)
        assert torch.equal(alone[0], dense[0][-1:]), "another row changed a bit"
    else:
        assert not any(sum_.any() for sum_ in dense[1:])
    grad_x.fill_(grid.CANARY)
    assert (buffer == grid.CANARY).all(), "memory outside the gradient was written"


@NORMS
def test_bits_do_not_depend_on_threads_or_repetition(package: ModuleType, norm: str) -> None:
    x, grad = torch.randn(2, 700, 1023)
    weight = torch.randn(1023)
    first = backward(package, norm, grad, x, weight)
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for _ in range(7):
            again = backward(package, norm, grad, x, weight)
            assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@NORMS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_row_has_the_bits_of_a_row_beside_one_without_gradient(
    package: ModuleType, norm: str, dtype: torch.dtype
) -> None:
    """A single row takes a way of its own. The product of the first gradient and x may underflow to
    -0, or be the NaN with a sign that infinity times nothing is.
    """
    firsts = ((0.0, 1.0), (-0.0, 1.0), (float("nan"), 1.0), (1e-40, -1e-30), (float("inf"), 0.0))
    for cols, (first_grad, first_x) in itertools.product((1, 5, 16, 100, 513), firsts):
        x, grad = torch.randn(2, 2, cols).to(dtype)
        grad[0, 0], x[0, 0], grad[1] = first_grad, first_x, 0.0
        if first_x == 0.0:
            x[0] = 0.0
        for weight in (torch.randn(cols).to(dtype), None):
            beside = backward(package, norm, grad, x, weight)
            alone = backward(package, norm, grad[:1], x[:1], weight)
            beside[0] = beside[0][:1]
            for found, expected in zip(alone, beside, strict=True):
                assert precision.same_bits(found, expected).all()
            for found, expected in zip(alone[1:], beside[1:], strict=True):
                assert found is None or torch.equal(found.signbit(), expected.signbit())


@pytest.mark.parametrize("cols", [9, 300])
def test_what_is_not_asked_for_is_not_computed(package: ModuleType, cols: int) -> None:
    x, grad = torch.randn(2, 5, cols)
    weight = torch.randn(cols)
    grad_x, grad_weight, grad_bias = backward(package, "layer_norm", grad, x, weight)
    for wanted in range(3):
        out = [None, None, None]
        out[wanted] = torch.full_like((grad_x, grad_weight, grad_bias)[wanted], float("nan"))
        package.ops.layer_norm_backward(*out, grad, x, weight, EPS)
        assert torch.equal(out[wanted], (grad_x, grad_weight, grad_bias)[wanted])


@NORMS
@pytest.mark.parametrize("asked", ["x", "weight"])
def test_the_layer_computes_what_is_asked_for(package: ModuleType, norm: str, asked: str) -> None:
    x = torch.randn(3, 8, requires_grad=asked == "x")
    weight = torch.randn(8, requires_grad=asked == "weight")
    out = getattr(package.layers, norm)(x, weight)
    with reference.Results(f"{norm}_bwd_nograd") as results:
        out.sum().backward()
    assert [result.numel() > 0 for result in results.tensors[:2]] == [asked == "x", asked != "x"]


def test_a_change_of_the_saved_input_is_noticed(package: ModuleType) -> None:
    base = torch.randn(4, 4, requires_grad=True) * 1.0
    result = package.layers.layer_norm(base)
    base.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def test_a_gradient_leaves_its_node_as_other_threads_read_it(package: ModuleType) -> None:
    x, w, b = (torch.randn(shape, requires_grad=True) for shape in ((3, 8), (8,), (8,)))
    y = package.ops.layer_norm_functional(x, w, b, EPS)
    node = y.grad_fn
    before, meanwhile = node.needs_input_grad, []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, op: Any, types: Any, arguments: Any = (), options: Any = None
        ) -> Any:
            meanwhile.append(node.needs_input_grad)
            return op(*arguments, **(options or {}))

    with Watch():
        torch.autograd.grad(y, (x, w, b), torch.ones(3, 8))
    assert meanwhile
    assert set(meanwhile) == {before}


@NORMS
def test_the_second_derivative_is_an_error(package: ModuleType, norm: str) -> None:
    x = torch.randn(4, 4, requires_grad=True)
    result = getattr(package.layers, norm)(x, torch.ones(4))
    (grad,) = torch.autograd.grad(result.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=rf"layer_norm\.{norm}: derivative order: expected at m"):
        grad.sum().backward()


def good() -> dict[str, object]:
    return {
        "grad_x": torch.empty(2, 4),
        "grad_weight": torch.empty(4),
        "grad_bias": torch.empty(4),
        "grad_out": torch.ones(2, 4),
        "x": torch.ones(2, 4),
        "weight": torch.ones(4),
        "eps": EPS,
    }


buffer = torch.zeros(60)
ERRORS = [
    ({"grad_x": torch.empty(2, 3)}, "grad_x shape: expected [2, 4], got [2, 3]"),
    ({"grad_x": torch.empty(2, 4).half()}, "grad_x dtype: expected float32, got float16"),
    ({"grad_x": torch.empty(1, 4).expand(2, 4)}, "grad_x row stride: expected at least 4, got 0"),
    ({"grad_weight": torch.empty(5)}, "grad_weight shape: expected [4], got [5]"),
    ({"grad_bias": torch.empty(4).double()}, "grad_bias dtype: expected float32, got float64"),
    ({"grad_out": torch.empty(4, 2).t()}, "grad_out last stride: expected 1, got 2"),
    ({"weight": torch.ones(1, 4)}, "weight shape: expected [4], got [1, 4]"),
    ({"eps": float("inf")}, "eps value: expected a finite number of at least 0, got inf"),
    (
        {"x": torch.ones(2, 4).int(), "grad_out": torch.ones(2, 4).int()},
        "x dtype: expected float32, float16, bfloat16 or float64, got int32",
    ),
    (
        {"grad_x": buffer[:8].view(2, 4), "grad_out": buffer[:8].view(2, 4)},
        "grad_x memory: expected disjoint from grad_out, got partial overlap",
    ),
    (
        {"grad_weight": buffer[:4], "grad_bias": buffer[3:7]},
        "grad_weight memory: expected disjoint from grad_bias, got partial overlap",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), ERRORS, ids=[e[1][:32] for e in ERRORS])
def test_bad_arguments_are_named_with_what_was_expected(
    package: ModuleType, arguments: dict[str, object], text: str
) -> None:
    with pytest.raises(RuntimeError) as failure:
        package.ops.layer_norm_backward(**(good() | arguments))
    assert str(failure.value).splitlines()[0] == f"layer_norm.layer_norm_backward: {text}"


@NORMS
def test_ops_pass_the_checks_of_torch_library(package: ModuleType, norm: str) -> None:
    x, grad = torch.randn(2, 3, 16)
    weight = torch.randn(16)
    out, of_weight, of_bias = torch.empty_like(x), torch.empty(16), torch.empty(16)
    ops = package.ops
    weighted = x.clone().requires_grad_(), weight.clone().requires_grad_()
    if norm == "rms_norm":
        torch.library.opcheck(ops.rms_norm.default, (out, x, weight, EPS))
        arguments = (out, of_weight, grad, x, weight, EPS)
        torch.library.opcheck(ops.rms_norm_backward.default, arguments)
        torch.library.opcheck(ops.rms_norm_functional.default, (*weighted, EPS))
        of_grad = ops.rms_norm_backward_functional.default
        torch.library.opcheck(of_grad, (grad, x, weight, EPS, [True, True]))
        torch.library.opcheck(ops.rms_norm_fwd_nograd.default, (x, weight, EPS))
        arguments = (grad, x, weight, EPS, True, False)
        torch.library.opcheck(ops.rms_norm_bwd_nograd.default, arguments)
        return
    arguments = (out, of_weight, None, grad, x, weight, EPS)
    torch.library.opcheck(ops.layer_norm_backward.default, arguments)
    arguments = (out, of_weight, of_bias, grad, x, weight, EPS)
    torch.library.opcheck(ops.layer_norm_backward.default, arguments)
    torch.library.opcheck(ops.layer_norm_functional.default, (*weighted, None, EPS))
    strided = torch.randn(4, 3).t()[:, :2].requires_grad_()
    torch.library.opcheck(ops.layer_norm_functional.default, (strided, None, torch.randn(2), EPS))
    of_grad = ops.layer_norm_backward_functional.default
    torch.library.opcheck(of_grad, (grad, x, weight, EPS, [True, True, True]))
    torch.library.opcheck(ops.layer_norm_fwd_nograd.default, (strided.detach(), None, None, EPS))
    for wanted in ((True, True, True), (False, False, True)):
        arguments = (grad, x, None if wanted[2] else weight, EPS, *wanted, torch.float32)
        torch.library.opcheck(ops.layer_norm_bwd_nograd.default, arguments)


@NORMS
def test_eager_calls_equal_the_functional_op(package: ModuleType, norm: str) -> None:
    parameters = [torch.randn(6).requires_grad_() for _ in range(2 if norm == "layer_norm" else 1)]
    layouts = (torch.randn(4, 6), torch.randn(2, 3, 6).transpose(0, 1), torch.randn(5, 8)[:, 2:])
    for x in layouts:
        inputs = (x.clone().requires_grad_(), *parameters)
        results = [
            call(*inputs, EPS)
            for call in (getattr(package.layers, norm), getattr(package.ops, f"{norm}_functional"))
        ]
        grad = torch.randn(x.shape).transpose(0, -1).contiguous().transpose(0, -1)
        eager, functional = (torch.autograd.grad(one, inputs, grad) for one in results)
        detached = getattr(package.layers, norm)(x, *(p.detach() for p in parameters), EPS)
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], detached)
        assert all(torch.equal(a, b) for a, b in zip(eager, functional, strict=True))


@NORMS
def test_the_fake_result_is_like_the_real_one(package: ModuleType, norm: str) -> None:
    functional = getattr(package.ops, f"{norm}_functional")
    for x in (torch.randn(4, 6), torch.randn(2, 3, 6).transpose(0, 1), torch.randn(5, 8)[:, 2:]):
        parameters = [torch.randn(6)] * (2 if norm == "layer_norm" else 1)
        real = functional(x, *parameters, EPS)
        fake = functional(x.to("meta"), *(p.to("meta") for p in parameters), EPS)
        assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())


@NORMS
def test_a_training_step_compiles_into_one_graph_for_every_batch(
    package: ModuleType, norm: str
) -> None:
    module = layer(package, norm, 32)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, fullgraph=True, backend=counter)
    for batch in (2, 5, 9):
        x = torch.randn(batch, 32, requires_grad=True)
        torch._dynamo.mark_dynamic(x, 0)
        wanted = [x, *module.parameters()]
        grads = torch.autograd.grad(compiled(x).square().sum(), wanted)
        expected = torch.autograd.grad(module(x).square().sum(), wanted)
        assert all(torch.equal(a, b) for a, b in zip(grads, expected, strict=True))
    assert counter.frame_count == 1


@NORMS
def test_layers_export_with_a_dynamic_batch(package: ModuleType, norm: str) -> None:
    module = layer(package, norm, 16)
    shapes = ({0: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(module, (torch.randn(3, 16),), dynamic_shapes=shapes)
    x = torch.randn(7, 16)
    assert torch.equal(program.module()(x), module(x))


def test_the_rms_layer_reads_either_epsilon_and_keeps_the_dtype(package: ModuleType) -> None:
    module = package.layers.LlamaRMSNorm()
    module.weight = torch.nn.Parameter(torch.randn(12))
    x = torch.randn(5, 12, dtype=torch.bfloat16)
    for name in ("variance_epsilon", "eps"):
        setattr(module, name, 0.5)
        result = module(x)
        delattr(module, name)
        expected = reference.norm(x.double(), module.weight.double(), None, 0.5, is_rms=True)
        assert result.dtype == torch.bfloat16
        torch.testing.assert_close(result.double(), expected, atol=1e-2, rtol=1e-2)


def test_weights_of_fp32_beside_16_bit_rows_have_gradients(package: ModuleType) -> None:
    x = torch.randn(7, 33).bfloat16().requires_grad_()
    module = layer(package, "layer_norm", 33)
    module(x).sum().backward()
    assert (x.grad.dtype, module.weight.grad.dtype) == (torch.bfloat16, torch.float32)
    wide = x.detach().double()
    n = reference.norm(wide, None, None, EPS, is_rms=False)
    torch.testing.assert_close(module.weight.grad.double(), n.sum(0), atol=1e-5, rtol=1e-5)


def test_a_bias_of_fp32_alone_has_a_gradient_of_fp32(package: ModuleType) -> None:
    x = torch.randn(200, 33).bfloat16()
    bias = torch.randn(33, requires_grad=True)
    grad = torch.rand(200, 33).bfloat16()
    package.layers.layer_norm(x, None, bias, EPS).backward(grad)
    assert bias.grad.dtype == torch.float32
    torch.testing.assert_close(bias.grad.double(), grad.double().sum(0), atol=0.0, rtol=1e-5)
    arguments = (x.requires_grad_(), None, bias, EPS)
    torch.library.opcheck(package.ops.layer_norm_functional.default, arguments)
    of_grad = package.ops.layer_norm_backward_functional.default
    wanted = [True, False, True]
    torch.library.opcheck(of_grad, (grad, x.detach(), None, EPS, wanted, torch.float32))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_bias_beside_a_weight_has_its_dtype(package: ModuleType, device: str) -> None:
    x, weight = torch.randn(3, 8, device=device).bfloat16(), torch.randn(8, device=device)
    flags = (True, True, True)
    grads = package.ops.layer_norm_bwd_nograd(x, x, weight, EPS, *flags, torch.float32)
    assert [grad.dtype for grad in grads] == [torch.bfloat16, torch.float32, torch.float32]
    error = (
        "layer_norm.layer_norm_backward: bias_dtype value: expected float32, that of weight, got "
        "bfloat16"
    )
    with pytest.raises(RuntimeError, match=error):
        package.ops.layer_norm_bwd_nograd(x, x, weight, EPS, *flags, torch.bfloat16)
    with pytest.raises(RuntimeError, match=error):
        package.ops.layer_norm_backward_functional(x, x, weight, EPS, list(flags), torch.bfloat16)


def test_the_schemas_mark_what_is_written(package: ModuleType) -> None:
    for name in ("layer_norm", "rms_norm", "dropout_add_norm"):
        for op in (name, f"{name}_backward"):
            arguments = getattr(package.ops, op).default._schema.arguments
            written = [a.alias_info is not None and a.alias_info.is_write for a in arguments]
            # Outputs come first, and nothing else is written.
            assert written == sorted(written, reverse=True), op
            assert any(written)
