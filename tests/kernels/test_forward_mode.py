# SPDX-License-Identifier: Apache-2.0
"""Forward-mode differentiation of every function and layer: the derivative, or a refusal. Never a
tangent lost in silence."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import activation_reference
import pytest
import torch
from torch.autograd import forward_ad
from torch.utils import _pytree

Load = Callable[[str], ModuleType]
EPS = 1e-5


class Case(NamedTuple):
    """A function of tensors, by the name of its package, and what it is differentiable in."""

    package: str
    function: Callable[..., Any]  # of the package, then of the inputs
    shapes: tuple[tuple[int, ...], ...]


def layer(made: torch.nn.Module, **members: Any) -> torch.nn.Module:
    for name, member in members.items():
        setattr(made, name, member)
    return made


def tables(width: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = torch.promote_types(x.dtype, torch.float32)
    angles = torch.linspace(0.1, 3.0, 3 * width, dtype=dtype).view(1, 3, width)
    return angles.cos(), angles.sin()


def rotated(k: Any, q: torch.Tensor, key: torch.Tensor | None, **options: Any) -> Any:
    width = options.get("rotary_dim", q.shape[-1])
    return k.layers.rotary_embedding(q, key, *tables(width, q), **options)


HEADS = (1, 2, 3, 8)
CASES = {
    "relu": Case("relu", lambda k, x: k.relu(x), ((3, 8),)),
    "ReLU": Case("relu", lambda k, x: k.layers.ReLU()(x), ((3, 8),)),
    **{
        op: Case("activation", lambda k, x, op=op: getattr(k.layers, op)(x), ((3, 8),))
        for op in activation_reference.ALL
    },
    **{
        name: Case("activation", lambda k, x, name=name: getattr(k.layers, name)()(x), ((3, 8),))
        for name in ("Silu", "GeluAndMul")
    },
    "layer_norm": Case(
        "layer-norm", lambda k, x, w, b: k.layers.layer_norm(x, w, b, EPS), ((3, 8), (8,), (8,))
    ),
    "layer_norm_without_parameters": Case(
        "layer-norm", lambda k, x: k.layers.layer_norm(x, eps=EPS), ((3, 8),)
    ),
    "layer_norm_bias_alone": Case(
        "layer-norm", lambda k, x, b: k.layers.layer_norm(x, None, b, EPS), ((3, 8), (8,))
    ),
    "rms_norm_of_layer_norm": Case(
        "layer-norm", lambda k, x, w: k.layers.rms_norm(x, w, EPS), ((3, 8), (8,))
    ),
    "LayerNorm": Case(
        "layer-norm",
        lambda k, x, w, b: layer(k.layers.LayerNorm(), weight=w, bias=b, eps=EPS)(x),
        ((3, 8), (8,), (8,)),
    ),
    "LlamaRMSNorm_of_layer_norm": Case(
        "layer-norm",
        lambda k, x, w: layer(k.layers.LlamaRMSNorm(), weight=w, variance_epsilon=EPS)(x),
        ((3, 8), (8,)),
    ),
    "rms_norm": Case("rmsnorm", lambda k, x, w: k.layers.rms_norm(x, w, EPS), ((3, 8), (8,))),
    "rms_norm_without_weight": Case(
        "rmsnorm", lambda k, x: k.layers.rms_norm(x, None, EPS), ((3, 8),)
    ),
    "rms_norm_gemma": Case(
        "rmsnorm", lambda k, x, w: k.layers.rms_norm(x, w, EPS, 1.0, "gemma"), ((3, 8), (8,))
    ),
    "fused_add_rms_norm": Case(
        "rmsnorm",
        lambda k, x, r, w: k.layers.fused_add_rms_norm(x, r, w, EPS),
        ((3, 8), (3, 8), (8,)),
    ),
    "apply_rms_norm": Case(
        "rmsnorm", lambda k, x, w: k.apply_rms_norm(x, w, EPS)[0], ((3, 8), (8,))
    ),
    "apply_gemma_rms_norm": Case(
        "rmsnorm", lambda k, x, w: k.ops.apply_gemma_rms_norm(x, w, EPS)[0], ((3, 8), (8,))
    ),
    **{
        name: Case(
            "rmsnorm",
            lambda k, x, w, name=name: layer(
                getattr(k.layers, name)(), weight=w, variance_epsilon=EPS
            )(x),
            ((3, 8), (8,)),
        )
        for name in ("RMSNorm", "LlamaRMSNorm", "GemmaRMSNorm")
    },
    "FusedAddRMSNorm": Case(
        "rmsnorm",
        lambda k, x, r, w: layer(k.layers.FusedAddRMSNorm(), weight=w, variance_epsilon=EPS)(x, r),
        ((3, 8), (3, 8), (8,)),
    ),
    "apply_rotary_transformers": Case(
        "rotary",
        lambda k, q, key: k.apply_rotary_transformers(q, key, *tables(8, q)),
        (HEADS, HEADS),
    ),
    "apply_rotary_transformers_layer": Case(
        "rotary",
        lambda k, q, key: k.layers.apply_rotary_transformers()(q, key, *tables(8, q)),
        (HEADS, HEADS),
    ),
    "rotary_embedding": Case(
        "rotary", lambda k, q, key: rotated(k, q, key, interleaved=True), (HEADS, HEADS)
    ),
    "rotary_embedding_of_q": Case(
        "rotary", lambda k, q: rotated(k, q, None, rotary_dim=4, conj=True)[0], (HEADS,)
    ),
}
# One for each way in which a function comes to its op.
COMPILED = (
    "relu",
    "gelu_tanh",
    "silu_and_mul",
    "layer_norm",
    "rms_norm",
    "fused_add_rms_norm",
    "apply_rms_norm",
    "apply_rotary_transformers",
)
ALL = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def function_of(case: Case, load_package: Load) -> Callable[..., Any]:
    package = load_package(case.package)
    return lambda *inputs: case.function(package, *inputs)


def random_inputs(case: Case) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in case.shapes)


def by_reverse_mode(
    function: Callable[..., Any],
    inputs: tuple[torch.Tensor, ...],
    changes: tuple[torch.Tensor, ...],
) -> Any:
    """The Jacobian, made of gradients, times `changes`."""
    jacobians = torch.autograd.functional.jacobian(lambda *x: tuple(leaves(function(*x))), inputs)
    return [
        sum(
            torch.tensordot(of_input, change, change.dim())
            for of_input, change in zip(of_output, changes, strict=True)
        )
        for of_output in jacobians
    ]


def leaves(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(tree) if leaf is not None]


def close(got: Any, expected: Any) -> None:
    torch.testing.assert_close(leaves(got), leaves(expected), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("requires_grad", [False, True])
@ALL
def test_dual_numbers_carry_what_gradients_say(
    load_package: Load, case: Case, requires_grad: bool
) -> None:
    function, inputs = function_of(case, load_package), random_inputs(case)
    changes = tuple(map(torch.randn_like, inputs))
    values = leaves(function(*inputs))
    subsets = [range(len(inputs)), *((i,) for i in range(len(inputs)))]
    for subset in subsets:
        given = tuple(change if i in subset else 0 * change for i, change in enumerate(changes))
        expected = by_reverse_mode(function, inputs, given)
        with forward_ad.dual_level():
            duals = [x.clone().requires_grad_(requires_grad) for x in inputs]
            for i in subset:
                duals[i] = forward_ad.make_dual(duals[i], changes[i])
            results = [forward_ad.unpack_dual(y) for y in leaves(function(*duals))]
        assert all(torch.equal(y.primal, v) for y, v in zip(results, values, strict=True))
        assert all(y.primal.requires_grad == requires_grad for y in results)
        close(
            [
                0 * v if y.tangent is None else y.tangent
                for y, v in zip(results, values, strict=True)
            ],
            expected,
        )


@ALL
def test_transforms_differentiate_forwards(
    load_package: Load, case: Case, request: pytest.FixtureRequest
) -> None:
    function, inputs = function_of(case, load_package), random_inputs(case)
    changes = tuple(map(torch.randn_like, inputs))
    expected = by_reverse_mode(function, inputs, changes)
    values, tangents = torch.func.jvp(function, inputs, changes)
    close(values, function(*inputs))
    close(tangents, expected)
    with torch.no_grad():
        close(torch.func.jvp(function, inputs, changes)[1], expected)
    if "rotary_embedding" in request.node.callspec.id:
        with pytest.raises(RuntimeError, match="Batching rule not implemented"):
            torch.func.jacfwd(function)(*inputs)  # torch has none for lists of results
        return
    everything = tuple(range(len(inputs)))
    jacobians = torch.func.jacfwd(lambda *x: tuple(leaves(function(*x))), everything)(*inputs)
    reverse = torch.autograd.functional.jacobian(lambda *x: tuple(leaves(function(*x))), inputs)
    close(jacobians, reverse)


@ALL
def test_an_outer_transform_is_not_forgotten(load_package: Load, case: Case) -> None:
    """The function knows nothing of the inner transform; its tangents are those of the outer."""
    function, inputs = function_of(case, load_package), random_inputs(case)
    changes = tuple(map(torch.randn_like, inputs))

    def nested(*x: torch.Tensor) -> Any:
        one = torch.ones((), dtype=torch.float64)

        def inner(y: torch.Tensor) -> Any:
            return tuple(y * leaf for leaf in leaves(function(*x)))

        return torch.func.jvp(inner, (one,), (one,))[1]

    close(torch.func.jvp(nested, inputs, changes)[1], by_reverse_mode(function, inputs, changes))


@pytest.mark.parametrize("case", [CASES[name] for name in COMPILED], ids=COMPILED)
def test_compiled_code_differentiates_forwards(load_package: Load, case: Case) -> None:
    torch._dynamo.reset()
    function, inputs = function_of(case, load_package), random_inputs(case)
    changes = tuple(map(torch.randn_like, inputs))
    expected = by_reverse_mode(function, inputs, changes)

    def transform(*both: torch.Tensor) -> Any:
        x, change = both[: len(inputs)], both[len(inputs) :]
        return torch.func.jvp(function, x, change)[1]

    def levels(*both: torch.Tensor) -> Any:
        x, change = both[: len(inputs)], both[len(inputs) :]
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(*pair) for pair in zip(x, change, strict=True)]
            return [forward_ad.unpack_dual(y).tangent for y in leaves(function(*duals))]

    for form in (transform, levels):
        compiled = torch.compile(form, fullgraph=True, backend="aot_eager")
        close(compiled(*inputs, *changes), expected)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    close(compiled(*inputs), function(*inputs))
    with forward_ad.dual_level():
        duals = map(forward_ad.make_dual, inputs, changes)
        close([forward_ad.unpack_dual(y).tangent for y in leaves(compiled(*duals))], expected)


SIXTEEN_BIT = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


@SIXTEEN_BIT
@ALL
def test_16_bit_tangents_are_near_those_of_float64(
    load_package: Load, case: Case, dtype: torch.dtype
) -> None:
    function, inputs = function_of(case, load_package), random_inputs(case)
    inputs = tuple(x.to(dtype) for x in inputs)
    changes = tuple(map(torch.randn_like, inputs))
    expected = by_reverse_mode(
        function, tuple(x.double() for x in inputs), tuple(x.double() for x in changes)
    )
    values, tangents = torch.func.jvp(function, inputs, changes)
    assert [t.dtype for t in leaves(tangents)] == [v.dtype for v in leaves(values)]
    rounding = torch.finfo(dtype).eps
    for got, wanted in zip(leaves(tangents), expected, strict=True):
        torch.testing.assert_close(got.double(), wanted, atol=8 * rounding, rtol=4 * rounding)


# -- refusals --------------------------------------------------------------------------------------


class Refused(NamedTuple):
    """A call without a derivative, and the name that its errors begin with."""

    package: str
    name: str
    function: Callable[..., Any]  # of the package, then of the inputs
    inputs: dict[str, tuple[int, ...]]


X_AND_OUT = {"out": (3, 8), "x": (3, 8)}
FUSED = {"x0": (3, 8), "residual": (3, 8), "gamma0": (8,), "beta0": (8,)}
QKV = {name: (1, 4, 2, 8) for name in "qkv"}
FLASH = ("flash-attn2", "flash-attn3", "vllm-flash-attn3")


def with_cache(k: Any, q: Any, k_cache: Any, v_cache: Any, key: Any, v: Any) -> Any:
    lengths = torch.zeros(1, dtype=torch.int32)
    return k.flash_attn_with_kvcache(q, k_cache, v_cache, key, v, cache_seqlens=lengths)


def fused(k: Any, norm: str, *inputs: Any) -> Any:
    return getattr(k, f"dropout_add_{norm}_norm")(*inputs, 0.0, EPS)


REFUSED = [
    Refused("relu", "relu.relu", lambda k, out, x: k.relu(x, out), X_AND_OUT),
    *(
        Refused(
            "activation",
            f"activation.{op}",
            lambda k, out, x, op=op: getattr(k, op)(out, x),
            {"out": (3, 4), "x": (3, 8)} if op in activation_reference.GATED else X_AND_OUT,
        )
        for op in activation_reference.ALL
    ),
    Refused(
        "layer-norm",
        "layer_norm.layer_norm",
        lambda k, out, x, w, b: k.layer_norm(out, x, w, b),
        {**X_AND_OUT, "weight": (8,), "bias": (8,)},
    ),
    Refused(
        "layer-norm",
        "layer_norm.rms_norm",
        lambda k, out, x, w: k.rms_norm(out, x, w),
        {**X_AND_OUT, "weight": (8,)},
    ),
    *(
        Refused(
            "layer-norm",
            "layer_norm.dropout_add_norm",
            lambda k, *inputs, norm=norm: fused(k, norm, *inputs),
            FUSED,
        )
        for norm in ("layer", "rms")
    ),
    *(
        Refused(
            "rmsnorm",
            f"rmsnorm.{op}",
            lambda k, out, x, w, op=op: getattr(k, op)(out, x, w),
            {"out": (3, 8), "input": (3, 8), "weight": (8,)},
        )
        for op in ("rms_norm", "gemma_rms_norm")
    ),
    Refused(
        "rmsnorm",
        "rmsnorm.fused_add_rms_norm",
        lambda k, x, r, w: k.fused_add_rms_norm(x, r, w),
        {"input": (3, 8), "residual": (3, 8), "weight": (8,)},
    ),
    Refused(
        "rmsnorm",
        "rmsnorm.apply_rms_norm_backward",
        lambda k, g, x, w, y, rstd: k.apply_rms_norm_backward(g, x, w, y, rstd, EPS),
        {"grad_output": (3, 8), "input": (3, 8), "weight": (8,), "output": (3, 8), "rstd": (3,)},
    ),
    Refused(
        "rotary",
        "rotary.apply_rotary",
        lambda k, *inputs: k.apply_rotary(*inputs, False),
        {name: (3, 4) for name in ("x1", "x2", "cos", "sin", "out1", "out2")},
    ),
    Refused(
        "rotary",
        "rotary.rotary_embedding",
        lambda k, *inputs: k.rotary_embedding(*inputs),
        {"q": HEADS, "k": HEADS, "cos": (1, 3, 8), "sin": (1, 3, 8)},
    ),
    *(
        Refused(
            package,
            f"{package.replace('-', '_')}.flash_attn_func",
            lambda k, *inputs: k.flash_attn_func(*inputs),
            QKV,
        )
        for package in FLASH
    ),
    *(
        Refused(
            package,
            f"{package.replace('-', '_')}.flash_attn_with_kvcache",
            with_cache,
            {"q": (1, 2, 2, 8), "k_cache": (1, 4, 2, 8), "v_cache": (1, 4, 2, 8)}
            | {name: (1, 2, 2, 8) for name in "kv"},
        )
        for package in FLASH
    ),
]


@pytest.mark.parametrize("call", REFUSED, ids=lambda call: f"{call.package}-{call.name}")
def test_what_has_no_derivative_refuses_tangents(load_package: Load, call: Refused) -> None:
    package = load_package(call.package)
    inputs = {name: torch.randn(shape) for name, shape in call.inputs.items()}
    for name in inputs:
        before = {other: x.clone() for other, x in inputs.items()}
        error = re.escape(f"{call.name}: {name} tangent: expected none, as this has no ")
        with forward_ad.dual_level(), torch.no_grad():
            call.function(package, *(x.clone() for x in inputs.values()))
            dual = forward_ad.make_dual(inputs[name], torch.randn_like(inputs[name]))
            with pytest.raises(RuntimeError, match=error):
                call.function(package, *(inputs | {name: dual}).values())

        def of_one(x: torch.Tensor, name: str = name) -> Any:
            return call.function(package, *(inputs | {name: x}).values())

        with pytest.raises(RuntimeError, match=error):
            torch.func.jvp(of_one, (inputs[name],), (torch.randn_like(inputs[name]),))
        assert all(torch.equal(x, before[other]) for other, x in inputs.items())


def test_a_tensor_without_a_tangent_is_written_below_jvp(load_package: Load) -> None:
    relu = load_package("relu")
    c, q = torch.randn(3, 8), torch.randn(3, 8)

    def product(q: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = q * relu.relu(c, torch.empty(3, 8))
        return product

    value, change = torch.func.jvp(product, (q,), (torch.ones(3, 8),))
    assert torch.equal(value, q * c.relu())
    assert torch.equal(change, c.relu())
    with pytest.raises(RuntimeError, match=r"out tangent: expected none, .* hide whether"):
        torch.func.grad(lambda q: torch.func.jvp(product, (q,), (q,))[1].sum())(q)


def test_attention_writes_into_nothing_that_has_a_tangent(load_package: Load) -> None:
    kernel, q = load_package("flash-attn2"), torch.randn(1, 2, 2, 8)
    lengths = torch.tensor([0], dtype=torch.int32)
    for function in (
        kernel.fwd,
        lambda *qkv, out: kernel.fwd_kvcache(*qkv, q, q, lengths, out=out),
    ):
        with forward_ad.dual_level(), torch.no_grad():
            out = forward_ad.make_dual(torch.zeros_like(q), torch.ones_like(q))
            with pytest.raises(RuntimeError, match="out tangent: expected none"):
                function(q, q.clone(), q.clone(), out=out)
            assert torch.equal(forward_ad.unpack_dual(out).primal, torch.zeros_like(q))


def test_a_torch_without_what_derivatives_need_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = Path(__file__).parents[2] / "kernels-community"
    source = packages / "primitives" / "python" / "_derivatives.py"
    monkeypatch.delattr(torch._C, "_any_requires_grad")
    with pytest.raises(ImportError, match=r"expected torch\._C\._any_requires_grad, which"):
        runpy.run_path(str(source))
    monkeypatch.undo()
    monkeypatch.setattr(forward_ad, "enter_dual_level", lambda: 0)
    monkeypatch.setattr(forward_ad, "exit_dual_level", lambda: None)
    with pytest.raises(ImportError, match=r"expected .*_current_level to be 0 in a dual_level"):
        runpy.run_path(str(source))


def test_rotation_tables_have_no_tangent(load_package: Load) -> None:
    rotary = load_package("rotary")
    q, cos = torch.randn(HEADS), torch.randn(1, 3, 8)
    for function in (rotary.apply_rotary_transformers, rotary.layers.rotary_embedding):
        for i in (2, 3):
            with forward_ad.dual_level():
                arguments = [q, q, cos, cos]
                arguments[i] = forward_ad.make_dual(cos, cos)
                with pytest.raises(RuntimeError, match=r"(cos|sin) tangent: expected tables"):
                    function(*arguments)


@pytest.mark.parametrize("has_graph", [False, True])
@pytest.mark.parametrize("is_inside", [False, True])
@pytest.mark.parametrize(
    "case",
    [case for case in CASES.values() if case.package != "rotary"],
    ids=[name for name, case in CASES.items() if case.package != "rotary"],
)
def test_forward_over_reverse_is_a_second_derivative(
    load_package: Load, case: Case, has_graph: bool, is_inside: bool
) -> None:
    function = function_of(case, load_package)
    inputs = [x.requires_grad_() for x in random_inputs(case)]
    results = leaves(function(*inputs))
    with forward_ad.dual_level():
        if is_inside:
            results = leaves(function(*inputs))
        change = [forward_ad.make_dual(torch.ones_like(y), torch.ones_like(y)) for y in results]
        with pytest.raises(RuntimeError, match="derivative order: expected at most the first"):
            torch.autograd.grad(results, inputs, change, create_graph=has_graph)
