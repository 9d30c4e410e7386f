# SPDX-License-Identifier: Apache-2.0
"""The fused ops of layer-norm: the Hub's argument lists, dropout masks, subsets, autograd,
compilation, bad arguments. Values: test_layer_norm_gradient_numerics.py."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import layer_norm_reference as reference
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

EPS = 1e-5


@pytest.fixture(scope="module")
def package(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("layer-norm")


def forward(package: ModuleType, x0: torch.Tensor, **changes: Any) -> list[torch.Tensor | None]:
    arguments = {
        "input": x0, "gamma": torch.ones(x0.shape[-1], dtype=x0.dtype), "beta": None,
        "rowscale": None, "colscale": None, "x0_subset": None, "z_subset": None, "dropout_p": 0.0,
        "epsilon": EPS, "rowscale_const": 1.0, "z_numrows": 0, "gen": None,
        "residual_in_fp32": False, "is_rms_norm": False,
    }  # fmt: skip
    return package.dropout_add_ln_fwd(**(arguments | changes))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_schemas_are_those_of_the_hub(package: ModuleType) -> None:
    argument_names = {
        name: [a.name for a in getattr(package.ops, name).default._schema.arguments]
        for name in (
            "dropout_add_ln_fwd",
            "dropout_add_ln_bwd",
            "dropout_add_ln_parallel_residual_fwd",
            "dropout_add_ln_parallel_residual_bwd",
        )
    }
    assert [len(names) for names in argument_names.values()] == [14, 17, 12, 14]
    for name, names in argument_names.items():
        code = getattr(package, name).__code__
        assert list(code.co_varnames[: code.co_argcount]) == names
    gen = package.ops.dropout_add_ln_fwd.default._schema.arguments[11]
    assert str(gen.type) == "Optional[Generator]"


def test_a_tensor_that_would_be_the_input_is_none(package: ModuleType) -> None:
    x0 = torch.randn(4, 8)
    z, x, dmask, mu, rsigma = forward(package, x0)
    assert (x, dmask) == (None, None)
    torch.testing.assert_close(mu, x0.mean(-1))
    torch.testing.assert_close(rsigma, (x0.var(-1, correction=0) + EPS).rsqrt())
    _, x, *_ = forward(package, x0.bfloat16(), residual_in_fp32=True)
    assert x.dtype == torch.float32
    raw = package.ops.dropout_add_ln_fwd(
        x0, torch.ones(8), None, None, None, None, None, 0.0, EPS, 1.0, 0, None, False, False
    )
    assert [tensor.numel() for tensor in raw] == [32, 0, 0, 4, 4]
    assert torch.equal(raw[0], z)


@pytest.mark.parametrize("dropout_p", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_evenly_and_by_seed(package: ModuleType, dropout_p: float) -> None:
    x0 = torch.ones(1000, 403)
    _, x, mask, *_ = forward(package, x0, dropout_p=dropout_p, gen=generator(3))
    # Five standard deviations of a mean over all elements, over rows and over columns.
    for kept in (mask.double().mean(), mask.double().mean(0), mask.double().mean(1)):
        count = mask.numel() / kept.numel()
        limit = 5.0 * (dropout_p * (1.0 - dropout_p) / count) ** 0.5
        assert (kept - (1.0 - dropout_p)).abs().max() <= limit
    assert torch.equal(x, mask / torch.tensor(1.0 - dropout_p))
    neighbours = (mask[:, 1:] == mask[:, :-1]).double().mean()
    assert abs(neighbours - (dropout_p**2 + (1.0 - dropout_p) ** 2)) < 5e-3
    again = forward(package, x0, dropout_p=dropout_p, gen=generator(3))[2]
    assert torch.equal(again, mask)
    other = forward(package, x0, dropout_p=dropout_p, gen=generator(4))[2]
    assert not torch.equal(other, mask)
    advanced = generator(3)
    first = forward(package, x0, dropout_p=dropout_p, gen=advanced)[2]
    second = forward(package, x0, dropout_p=dropout_p, gen=advanced)[2]
    assert torch.equal(first, mask)
    assert not torch.equal(second, mask)


def test_masks_do_not_depend_on_threads_layout_dtype_or_later_rows(package: ModuleType) -> None:
    x0 = torch.randn(700, 129)
    mask = forward(package, x0, dropout_p=0.3, gen=generator(1))[2]
    for count in (2, 3):
        torch.set_num_threads(count)
        assert torch.equal(forward(package, x0, dropout_p=0.3, gen=generator(1))[2], mask)
    few = forward(package, x0[:5], dropout_p=0.3, gen=generator(1))[2]
    assert torch.equal(few, mask[:5])
    wide = torch.randn(700, 140).bfloat16()[:, 3:132]
    assert torch.equal(forward(package, wide, dropout_p=0.3, gen=generator(1))[2], mask)


@pytest.mark.parametrize("seed", [1, -5, 2**40 + 3])
def test_masks_are_those_of_the_formula(package: ModuleType, seed: int) -> None:
    x0 = torch.ones(19, 70)
    nothing = (None,) * 9
    result = package.ops.dropout_add_norm_functional(
        x0, x0, *nothing, torch.tensor([seed]), 0.25, EPS, 1.0, 0, False, False
    )
    assert torch.equal(result[3], reference.mask(seed, 0, 19, 70, 0.25))
    assert torch.equal(result[4], reference.mask(seed, 1, 19, 70, 0.25))


def test_the_default_generator_is_used_where_none_is_given(package: ModuleType) -> None:
    x0 = torch.ones(8, 64)
    torch.manual_seed(5)
    first = forward(package, x0, dropout_p=0.5)[2]
    second = forward(package, x0, dropout_p=0.5)[2]
    torch.manual_seed(5)
    assert torch.equal(forward(package, x0, dropout_p=0.5)[2], first)
    assert not torch.equal(first, second)


def test_both_masks_of_a_parallel_call_differ(package: ModuleType) -> None:
    x0 = torch.ones(50, 64)
    *_, dmask0, dmask1, _, _ = package.dropout_add_ln_parallel_residual_fwd(
        x0, x0, None, torch.ones(64), None, None, None, 0.5, EPS, generator(2), False, False
    )
    assert (dmask0 == dmask1).double().mean() < 0.6


@pytest.mark.parametrize("is_rms", [False, True])
def test_backward_uses_the_very_mask(package: ModuleType, is_rms: bool) -> None:
    x0 = torch.randn(20, 33, dtype=torch.float64)
    gamma = torch.randn(33, dtype=torch.float64)
    z, x, dmask, mu, rsigma = forward(
        package, x0, gamma=gamma, dropout_p=0.4, gen=generator(7), is_rms_norm=is_rms
    )
    dz = torch.randn_like(z)
    dx0, dresidual, _dgamma, _dbeta, *scratch = package.dropout_add_ln_bwd(
        dz, None, x, None, dmask, mu, rsigma, gamma, None, None, None, None, 0.4, 1.0, 0, True,
        is_rms,
    )  # fmt: skip
    assert [part.shape for part in scratch] == [(0, 33), (0, 33)]
    assert (dx0[dmask == 0] == 0.0).all()
    assert torch.equal(dx0 != 0.0, dmask == 1)
    kept = dmask == 1
    torch.testing.assert_close(dx0[kept], dresidual[kept] / 0.6)
    wide = x0.clone().requires_grad_()
    exact = reference.norm(reference.dropped(wide, dmask, 0.4), gamma, None, EPS, is_rms)
    torch.testing.assert_close(z, exact.detach())
    (expected,) = torch.autograd.grad(exact, wide, dz)
    torch.testing.assert_close(dx0, expected)


def test_rows_outside_the_subsets_are_zeros(package: ModuleType) -> None:
    x0 = torch.randn(3, 8)
    z, x, dmask, *_ = forward(
        package, x0, x0_subset=torch.tensor([0, 2], dtype=torch.int32),
        z_subset=torch.tensor([4, 0], dtype=torch.int32), z_numrows=5, dropout_p=0.5,
        gen=generator(1),
    )  # fmt: skip
    assert z.shape == (5, 8)
    assert not z[[0, 1, 2, 4]].any()
    assert not x[0].any()
    assert not dmask[[0, 2]].any()


@pytest.mark.parametrize("is_rms", [False, True])
def test_gradcheck_of_the_functions(package: ModuleType, is_rms: bool) -> None:
    name = "rms" if is_rms else "layer"
    make = lambda *shape: torch.randn(*shape, dtype=torch.float64, requires_grad=True)  # noqa: E731
    x0, residual = make(5, 7), make(6, 7)
    weight, bias, scale = make(7), make(7), make(7)
    subset = torch.tensor([2, 0, 5, 1, 3, 4], dtype=torch.int32)
    out_subset = torch.tensor([1, 2, 0, 3, 0, 4], dtype=torch.int32)
    function = getattr(package, f"dropout_add_{name}_norm_subset")
    assert torch.autograd.gradcheck(
        lambda *t: function(
            t[0], t[1], t[2], t[3], 0.3, EPS, t[4], subset, out_subset, 0.5, 4, prenorm=True,
            generator=generator(1),
        ),
        (x0, residual, weight, bias, scale),
    )  # fmt: skip
    parallel = getattr(package, f"dropout_add_{name}_norm_parallel_residual")
    x1, residual = make(5, 7), make(5, 7)
    assert torch.autograd.gradcheck(
        lambda *t: parallel(*t, 0.3, EPS, prenorm=True, generator=generator(2)),
        (x0, x1, residual, weight, bias, scale, bias),
    )
    plain = getattr(package, f"dropout_add_{name}_norm")
    rowscale = torch.rand(5, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *t: plain(*t[:4], 0.0, EPS, rowscale, t[4], prenorm=True),
        (x0, residual, weight, bias, scale),
    )
    only_x = lambda *t: plain(*t, 0.0, EPS, prenorm=True)[1]  # noqa: E731
    assert torch.autograd.gradcheck(only_x, (x0, residual, weight, bias))


def test_the_functions_return_what_is_asked_for(package: ModuleType) -> None:
    x0, weight = torch.randn(2, 3, 8), torch.randn(8)
    z = package.dropout_add_layer_norm(x0, None, weight, None, 0.0, EPS)
    torch.testing.assert_close(z, torch.nn.functional.layer_norm(x0, (8,), weight))
    z, x, mask = package.dropout_add_layer_norm(
        x0, None, weight, None, 0.0, EPS, prenorm=True, return_dropout_mask=True
    )
    assert x is x0
    assert (mask == 1).all()
    z, x, mask = package.dropout_add_rms_norm(
        x0, x0, weight, None, 0.5, EPS, prenorm=True, return_dropout_mask=True
    )
    torch.testing.assert_close(x, reference.dropped(x0, mask, 0.5) + x0)
    z0, z1 = package.dropout_add_rms_norm_parallel_residual(
        x0, None, None, weight, None, None, None, 0.0, EPS
    )
    assert z1 is None
    torch.testing.assert_close(z0, reference.norm(x0, weight, None, EPS, is_rms=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rows_without_columns_have_the_statistics_of_eager(
    package: ModuleType, dtype: torch.dtype
) -> None:
    for _ in range(3):
        torch.full((3,), 5.0, dtype=torch.float64)  # what the allocator hands out next
        _, _, _, mu, rsigma = forward(package, torch.empty(3, 0, dtype=dtype))
        assert mu.isnan().all()
        assert rsigma.isnan().all()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4)])
def test_what_has_no_elements_is_not_taken_for_absent(
    package: ModuleType, shape: tuple[int, ...]
) -> None:
    x0 = torch.empty(shape, dtype=torch.bfloat16)
    residual = torch.empty(shape)
    weight = torch.ones(shape[-1])
    function = package.dropout_add_layer_norm_parallel_residual
    arguments = (x0, x0, residual, weight, None, weight, None, 0.5, EPS, True, False, True)
    z0, z1, x, mask0, mask1 = function(*arguments)
    assert [t.shape for t in (z0, z1, x, mask0, mask1)] == [shape] * 5
    assert (z1.dtype, x.dtype, mask1.dtype) == (torch.bfloat16, torch.float32, torch.uint8)


def test_what_is_not_asked_for_is_not_computed(package: ModuleType) -> None:
    x0, gamma = torch.randn(5, 8), torch.randn(8, requires_grad=True)
    arguments = (x0, torch.randn(5, 8), gamma, torch.randn(8), 0.0, EPS)
    out = package.dropout_add_layer_norm(*arguments)
    with reference.Results("dropout_add_norm_backward_functional") as results:
        out.sum().backward()
    assert [result.numel() for result in results.tensors] == [0, 0, 0, 8, 0, 0, 0, 0]


def test_a_rowscale_that_asks_for_a_gradient_is_an_error(package: ModuleType) -> None:
    x0 = torch.randn(3, 8, requires_grad=True)
    scale = torch.rand(3, requires_grad=True)
    z = package.dropout_add_layer_norm(x0, None, torch.ones(8), None, 0.0, EPS, scale)
    with pytest.raises(RuntimeError, match=r"rowscale gradient: expected a rowscale that requires"):
        z.sum().backward()


def functional_arguments(dropout_p: float, requires_grad: bool) -> tuple[Any, ...]:
    x0, x1, residual = torch.randn(3, 4, 16)
    weights = [torch.randn(16) for _ in range(5)]
    tensors = [x0, x1, residual, *weights]
    tensors = [tensor.clone().requires_grad_(requires_grad) for tensor in tensors]
    seed = torch.tensor([1]) if dropout_p else None
    return (
        *tensors[:7], torch.rand(4), tensors[7], None, None, seed, dropout_p, EPS, 1.0, 0, False,
        False,
    )  # fmt: skip


@pytest.mark.parametrize("dropout_p", [0.0, 0.5])
def test_ops_pass_the_checks_of_torch_library(package: ModuleType, dropout_p: float) -> None:
    arguments = functional_arguments(dropout_p, requires_grad=True)
    torch.library.opcheck(package.ops.dropout_add_norm_functional.default, arguments)
    x0, gamma = torch.randn(4, 16), torch.ones(16)
    mask = torch.empty(4, 16, dtype=torch.uint8) if dropout_p else None
    seed = torch.tensor([1]) if dropout_p else None
    raw = (
        torch.empty(4, 16), None, torch.empty(4, 16), mask, None, torch.empty(4), torch.empty(4),
        x0, None, None, gamma, None, None, None, None, None, None, None, seed, dropout_p, EPS, 1.0,
        False,
    )  # fmt: skip
    torch.library.opcheck(package.ops.dropout_add_norm.default, raw)
    package.ops.dropout_add_norm(*raw)
    statistics = torch.randn(4), torch.rand(4)
    raw = (
        torch.empty(4, 16), None, torch.empty(4, 16), torch.empty(16), torch.empty(16), None, None,
        None, x0, None, None, x0.clone(), None, mask, None, *statistics, gamma, None, None, None,
        None, None, dropout_p, EPS, 1.0, False,
    )  # fmt: skip
    torch.library.opcheck(package.ops.dropout_add_norm_backward.default, raw)
    hub = package.ops.dropout_add_ln_bwd.default
    torch.library.opcheck(
        hub,
        (x0, None, x0.clone(), None, mask, *statistics, gamma, None, None, None, None, dropout_p,
         1.0, 0, True, False),
    )  # fmt: skip
    if not dropout_p:  # a random seed is another one at every call
        hub = package.ops.dropout_add_ln_fwd.default
        torch.library.opcheck(
            hub,
            (x0, gamma, None, None, None, None, None, 0.0, EPS, 1.0, 0, None, False, False),
        )


@pytest.mark.parametrize("dropout_p", [0.0, 0.5])
def test_the_fake_results_are_like_the_real_ones(package: ModuleType, dropout_p: float) -> None:
    functional = package.ops.dropout_add_norm_functional
    arguments = functional_arguments(dropout_p, requires_grad=False)
    meta = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in arguments]
    for real, fake in zip(functional(*arguments), functional(*meta), strict=True):
        assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())


def test_a_training_step_compiles_into_one_graph_for_every_batch(package: ModuleType) -> None:
    weight = torch.randn(32, requires_grad=True)

    def step(x0: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return package.dropout_add_rms_norm(x0, residual, weight, None, 0.0, EPS, prenorm=True)

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for batch in (2, 5, 9):
        x0, residual = (torch.randn(batch, 32, requires_grad=True) for _ in range(2))
        torch._dynamo.mark_dynamic(x0, 0)
        torch._dynamo.mark_dynamic(residual, 0)
        wanted = (x0, residual, weight)
        sums = [sum(t.square().sum() for t in f(x0, residual)) for f in (compiled, step)]
        results = [torch.autograd.grad(total, wanted) for total in sums]
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert counter.frame_count == 1


def test_dropout_compiles_and_draws_anew_at_every_call(package: ModuleType) -> None:
    torch._dynamo.reset()
    weight = torch.ones(64)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def masks(x0: torch.Tensor) -> torch.Tensor:
        return package.dropout_add_layer_norm(
            x0, None, weight, None, 0.5, EPS, return_dropout_mask=True
        )[1]

    x0 = torch.randn(8, 64)
    first, second = masks(x0), masks(x0)
    assert 0.3 < first.double().mean() < 0.7
    assert not torch.equal(first, second)


BAD = [
    ({"dropout_p": 1.0}, "dropout_p value: expected a number of at least 0 and below 1, got 1.0"),
    ({"gamma": torch.ones(7)}, "gamma0 shape: expected [8], got [7]"),
    ({"gamma": torch.ones(8).half()}, "gamma0 dtype: expected float32 as x0, got flo"),
    ({"rowscale": torch.ones(3)}, "rowscale shape: expected [4], got [3]"),
    ({"colscale": torch.ones(8).double()}, "colscale dtype: expected float32 as gamma0, got floa"),
    ({"epsilon": -1.0}, "epsilon value: expected a finite number of at least 0, got -1.0"),
    (
        {"x0_subset": torch.tensor([1, 5], dtype=torch.int32)},
        "x0_subset values: expected 0 (none) and distinct numbers up to 4, got 5",
    ),
    (
        {"x0_subset": torch.tensor([3, 3], dtype=torch.int32)},
        "x0_subset values: expected 0 (none) and distinct numbers up to 4, got 3 twice",
    ),
    ({"x0_subset": torch.tensor([1, 2])}, "x0_subset dtype: expected int32, got int64"),
    (
        {"z_subset": torch.tensor([1, 2, 3, 9], dtype=torch.int32), "z_numrows": 3},
        "z_subset values: expected 0 (none) and distinct numbers up to 3, got 9",
    ),
    ({"input": torch.ones(4, 8).int()}, "x0 dtype: expected float32, float16, bfloat16 or float6"),
]


@pytest.mark.parametrize(("changes", "text"), BAD, ids=[text[:24] for _, text in BAD])
def test_bad_arguments_are_named(package: ModuleType, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(RuntimeError) as failure:
        forward(package, **({"x0": torch.randn(4, 8)} | changes))
    assert str(failure.value).splitlines()[0].startswith(f"layer_norm.dropout_add_norm: {text}")


def test_gradients_name_what_they_lack(package: ModuleType) -> None:
    x, gamma, statistics = torch.randn(4, 8), torch.ones(8), torch.ones(4)
    arguments = [x, None, x, None, None, statistics, statistics, gamma, None, None, None, None]
    with pytest.raises(RuntimeError, match=r"dmask0 presence: expected a tensor where dropout_p"):
        package.dropout_add_ln_bwd(*arguments, 0.5, 1.0, 0, False, False)
    with pytest.raises(RuntimeError, match=r"dropout_add_ln_bwd: x0 presence: expected a tensor"):
        package.dropout_add_ln_bwd(*arguments[:9], gamma, None, None, 0.0, 1.0, 0, False, False)


def test_5_the_layer_keeps_the_bias_and_any_width_is_taken(package: ModuleType) -> None:
    # What the Hub's package gets wrong (kernels spec, section 15).
    module = package.layers.LayerNorm()
    for width in (1, 7, 8200):
        module.weight, module.bias = torch.randn(2, width)
        module.eps = EPS
        x = torch.randn(3, width)
        expected = torch.nn.functional.layer_norm(x, (width,), module.weight, module.bias, EPS)
        torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)
        z, *_ = forward(package, x, gamma=module.weight, beta=module.bias)
        torch.testing.assert_close(z, expected, atol=1e-5, rtol=1e-5)
