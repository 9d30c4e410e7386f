# SPDX-License-Identifier: Apache-2.0
"""Layouts, errors, tracing and gradients of the rotary package, and what the Hub's gets wrong."""

import itertools
import random
import re
from collections.abc import Callable
from types import ModuleType

import precision
import pytest
import rotary_reference as reference
import torch
from torch._dynamo.testing import CompileCounterWithBackend

Arguments = dict[str, object]


@pytest.fixture(scope="module")
def rotary(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("rotary")


def small(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """q, k, cos and sin."""
    q, k = torch.randn(2, 4, 5, 8).to(dtype), torch.randn(2, 2, 5, 8).to(dtype)
    return [q, k, *reference.tables(2, 5, 8, dtype=dtype)]


def test_public_names_exist(rotary: ModuleType) -> None:
    expected = {"apply_rotary", "apply_rotary_transformers", "layers", "ops", "rotary_embedding"}
    assert set(rotary.__all__) == expected
    assert all(hasattr(rotary, name) for name in rotary.__all__)
    assert set(rotary.layers.__all__) == {"apply_rotary_transformers", "rotary_embedding"}


SCHEMAS = {
    "apply_rotary": "(Tensor x1, Tensor x2, Tensor cos, Tensor sin, Tensor! out1, Tensor! out2, "
    "bool conj) -> ()",
    "apply_rotary_transformers": "(Tensor! q_out, Tensor! k_out, Tensor q, Tensor k, Tensor cos, "
    "Tensor sin, bool conj, int unsqueeze_dim) -> ()",
    "rotary_embedding": "(Tensor! q, Tensor!? k, Tensor cos, Tensor sin, Tensor? positions, int "
    "rotary_dim, bool interleaved, bool conj, int unsqueeze_dim) -> ()",
    "rotary_embedding_out": "(Tensor! q_out, Tensor!? k_out, Tensor q, Tensor? k, Tensor cos, "
    "Tensor sin, Tensor? positions, int rotary_dim, bool interleaved, bool conj, int "
    "unsqueeze_dim) -> ()",
}


@pytest.mark.parametrize("op", SCHEMAS)
def test_schemas_mark_exactly_what_is_written(rotary: ModuleType, op: str) -> None:
    schema = str(getattr(rotary.ops, op).default._schema).split("::")[1]
    assert re.sub(r"Tensor\(\$\d! -> \)", "Tensor!", schema) == op + SCHEMAS[op]


def test_ops_pass_the_checks_of_torch_library(rotary: ModuleType) -> None:
    q, k, cos, sin = small()
    ops = rotary.ops
    positions = torch.tensor([[0, 4, 2, 2, 1]])
    half = slice(0, 4), slice(4, 8)
    x1, x2 = q[..., half[0]], q[..., half[1]]
    c, s = cos[:, None, :, :4], sin[:, None, :, :4]
    empty = torch.empty_like
    check = torch.library.opcheck
    check(ops.apply_rotary.default, (x1, x2, c, s, empty(x1), empty(x2), True))
    check(
        ops.apply_rotary_transformers.default,
        (empty(q), empty(k), q, k, cos, sin, False, 1),
    )
    tail = (8, False, True, 1)
    check(ops.rotary_embedding.default, (q, k, cos, sin, None, *tail))
    check(ops.rotary_embedding.default, (q, None, cos[0], sin[0], positions, *tail))
    check(ops.rotary_embedding_out.default, (empty(q), None, q, None, cos, sin, None, *tail))
    check(ops.rotary_embedding_out.default, (empty(q), empty(k), q, k, cos, sin, None, *tail))
    q, k = q.requires_grad_(), k.requires_grad_()
    check(ops.apply_rotary_transformers_functional.default, (q, k, cos, sin, False, 1))
    check(ops.rotary_embedding_functional.default, (q, k, cos, sin, None, *tail))
    check(ops.rotary_embedding_functional.default, (q, None, cos[0], sin[0], positions, *tail))


def test_the_fake_result_is_like_the_real_one(rotary: ModuleType) -> None:
    q, k, cos, sin = small()
    forms = (
        q,
        q.transpose(1, 2).contiguous().transpose(1, 2),
        torch.randn(2, 5, 14, 8)[:, :, 3:7].transpose(1, 2),
        torch.randn(2, 4, 8, 5).transpose(2, 3),
        torch.randn(1, 4, 5, 8).expand(2, 4, 5, 8),
    )
    for form in forms:
        arguments = (form, k, cos, sin)
        real = rotary.ops.apply_rotary_transformers_functional(*arguments, False, 1)
        fake = rotary.ops.apply_rotary_transformers_functional(
            *(t.to("meta").as_strided(t.shape, t.stride()) for t in arguments), False, 1
        )
        direct = rotary.apply_rotary_transformers(*arguments)
        for a, b, c in zip(real, fake, direct, strict=True):
            assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())
            assert torch.equal(a, c)
            assert a.stride() == c.stride()


@pytest.mark.parametrize("shape", [(0, 4, 5, 8), (2, 0, 5, 8), (2, 4, 0, 8), (2, 4, 5, 0)])
def test_empty_tensors_return_at_once(rotary: ModuleType, shape: tuple[int, ...]) -> None:
    q, k = torch.empty(shape), torch.empty(shape)
    cos, sin = torch.empty(2, shape[0], shape[2], shape[3])
    results = rotary.apply_rotary_transformers(q, k, cos, sin)
    assert [x.shape for x in results] == [q.shape, k.shape]


def test_one_of_two_tensors_may_be_empty(rotary: ModuleType) -> None:
    q, k, cos, sin = small()
    expected = rotary.apply_rotary_transformers(q, k, cos, sin)
    _, result = rotary.apply_rotary_transformers(q[:, :0], k, cos, sin)
    assert torch.equal(result, expected[1])


def test_rows_that_share_memory_may_be_read(rotary: ModuleType) -> None:
    q, k, cos, sin = small()
    shared = q[:, :1].expand(2, 4, 5, 8)
    result, _ = rotary.apply_rotary_transformers(shared, k, cos, sin)
    assert torch.equal(result, reference.fp32_formula(shared, cos, sin))
    wide = [t[:1].expand(2, 5, 8) for t in (cos, sin)]
    result, _ = rotary.apply_rotary_transformers(q, k, *wide)
    assert torch.equal(result, reference.fp32_formula(q, *wide))


def test_many_dimensions_work_where_they_are_few_strides(rotary: ModuleType) -> None:
    q = torch.randn(2, 3, 2, 4, 5, 8)
    cos, sin = reference.tables(5, 8)
    result, _ = rotary.layers.rotary_embedding(q, None, cos, sin, unsqueeze_dim=0)
    assert torch.equal(result, reference.fp32_formula(q, cos, sin, unsqueeze_dim=0))
    scattered = torch.randn(3, 3, 3, 3, 4, 8)[:2, :2, :2, :2]
    expected = reference.fp32_formula(scattered, cos[:4], sin[:4], unsqueeze_dim=0)
    result, _ = rotary.layers.rotary_embedding(
        scattered.flatten(0, 1), None, cos[:4], sin[:4], unsqueeze_dim=0
    )
    assert torch.equal(result, expected.flatten(0, 1))
    with pytest.raises(RuntimeError, match=r"q strides: expected at most 4 leading dimensions"):
        rotary.layers.rotary_embedding(scattered, None, cos[:4], sin[:4], unsqueeze_dim=0)


def test_positions_pick_rows_of_any_layout(rotary: ModuleType) -> None:
    cos, sin = (t[:, 3:11] for t in reference.tables(40, 20))
    tokens, k = torch.randn(17, 4, 8), torch.randn(17, 1, 8)
    every_second = torch.arange(34, dtype=torch.int32)[::2]
    result, other = rotary.layers.rotary_embedding(tokens, k, cos, sin, every_second)
    assert torch.equal(result, reference.fp32_formula(tokens, cos, sin, every_second))
    assert torch.equal(other, reference.fp32_formula(k, cos, sin, every_second))


@pytest.mark.parametrize("value", [-1, 40, 2**40])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_a_position_outside_the_table_is_an_error_and_nothing_is_written(
    rotary: ModuleType, value: int, dtype: torch.dtype
) -> None:
    if dtype == torch.int32 and value > 2**31:
        value = 2**31 - 1
    q = torch.randn(3, 4, 8)
    before = q.clone()
    positions = torch.tensor([0, 39, value], dtype=dtype)
    text = f"rotary.rotary_embedding: positions value: expected 0 to 39, a row of cos, got {value}"
    with pytest.raises(RuntimeError) as failure:
        rotary.rotary_embedding(q, None, *reference.tables(40, 8), positions)
    assert str(failure.value).splitlines()[0] == text
    assert torch.equal(q, before)


memory = torch.zeros(400)
ERRORS: list[tuple[Arguments, str]] = [
    ({"cos": torch.zeros(2, 5, 6), "sin": torch.zeros(2, 5, 6)}, "cos last dimension: expected 8 "
     "or 4, got 6"),
    ({"cos": torch.zeros(2, 5, 16), "sin": torch.zeros(2, 5, 16)}, "cos last dimension: expected "
     "8 or 4, got 16"),
    ({"sin": torch.zeros(2, 5, 4)}, "sin shape: expected [2, 5, 8], got [2, 5, 4]"),
    ({"cos": torch.zeros(2, 5, 8).half()}, "cos dtype: expected float32 as q, or float32, got "
     "float16"),
    ({"sin": torch.zeros(2, 5, 8).double()}, "sin dtype: expected float32 as cos, got float64"),
    ({"cos": torch.zeros(2, 6, 8), "sin": torch.zeros(2, 6, 8)}, "cos shape: expected one that "
     "broadcasts to the leading dimensions of q [2, 4, 5, 8], got [2, 6, 8] unsqueezed at 1"),
    ({"k": torch.zeros(2, 2, 5, 8).half()}, "k dtype: expected float32 as q, got float16"),
    ({"k": torch.zeros(2, 2, 5, 6)}, "rotary_dim value: expected an even number from 2 to 6, the "
     "last dimension of k, got 8"),
    ({"k": torch.zeros(3, 2, 5, 8)}, "cos shape: expected one that broadcasts to the leading "
     "dimensions of k [3, 2, 5, 8], got [2, 5, 8] unsqueezed at 1"),
    ({"q": torch.zeros(2, 4, 5, 8, dtype=torch.int64)}, "q dtype: expected float32, float16, "
     "bfloat16 or float64, got int64"),
    ({"rotary_dim": 7}, "rotary_dim value: expected an even number from 2 to 8, the last "
     "dimension of q, got 7"),
    ({"rotary_dim": 10}, "rotary_dim value: expected an even number from 2 to 8, the last "
     "dimension of q, got 10"),
    ({"rotary_dim": 0}, "rotary_dim value: expected an even number from 2 to 8, the last "
     "dimension of q, got 0"),
    ({"rotary_dim": -1}, "rotary_dim value: expected an even number from 2 to 8, the last "
     "dimension of q, got -1"),
    ({"unsqueeze_dim": 3}, "unsqueeze_dim value: expected 0 to 2 or -4 to -2, got 3"),
    ({"unsqueeze_dim": -1}, "unsqueeze_dim value: expected 0 to 2 or -4 to -2, got -1"),
    ({"positions": torch.zeros(2, 5)}, "positions dtype: expected int32 or int64, got float32"),
    ({"positions": torch.zeros(2, 5).long()}, "cos rank: expected 2, positions by columns, got 3"),
    ({"q": torch.zeros(2, 4, 8, 5).transpose(2, 3)}, "q last stride: expected 1, got 5"),
    ({"q": torch.zeros(1, 4, 5, 8).expand(2, 4, 5, 8)}, "q strides: expected elements that share "
     "no memory, got [0, 40, 8, 1] for shape [2, 4, 5, 8]"),
    ({"q": torch.tensor(1.0)}, "q rank: expected at least 1, got 0"),
    ({"q": memory[:320].view(2, 4, 5, 8), "k": memory[312:392].view(1, 2, 5, 8).clone()
      .set_(memory.untyped_storage(), 240, (2, 2, 5, 8))}, "q memory: expected disjoint from k, "
     "got an overlap"),
    ({"q": memory[:320].view(2, 4, 5, 8), "cos": memory[300:380].view(2, 5, 8)}, "q memory: "
     "expected disjoint from cos, got an overlap"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "text"), ERRORS, ids=[str(i) for i in range(len(ERRORS))])
def test_bad_arguments_are_named_with_what_was_expected(
    rotary: ModuleType, changed: Arguments, text: str
) -> None:
    q, k, cos, sin = small()
    good = {"q": q, "k": k, "cos": cos, "sin": sin, "positions": None, "rotary_dim": 8}
    good |= {"interleaved": False, "conj": False, "unsqueeze_dim": 1}
    with pytest.raises(RuntimeError) as failure:
        rotary.ops.rotary_embedding(*(good | changed).values())
    assert str(failure.value).splitlines()[0] == f"rotary.rotary_embedding: {text}"


HALF_ERRORS: list[tuple[Arguments, str]] = [
    ({"x2": torch.zeros(3, 5)}, "x2 shape: expected [3, 4], got [3, 5]"),
    ({"out1": torch.zeros(2, 4)}, "out1 shape: expected [3, 4], got [2, 4]"),
    ({"out2": torch.zeros(3, 4).half()}, "out2 dtype: expected float32 as x1, got float16"),
    ({"cos": torch.zeros(8), "sin": torch.zeros(8)}, "cos last dimension: expected 4 as x1, got 8"),
    ({"cos": torch.zeros(2, 4), "sin": torch.zeros(2, 4)}, "cos shape: expected one that "
     "broadcasts to the leading dimensions of x1 [3, 4], got [2, 4]"),
    ({"x1": torch.zeros(4, 3).t()}, "x1 last stride: expected 1, got 3"),
    ({"out1": torch.zeros(1, 4).expand(3, 4)}, "out1 strides: expected elements that share no "
     "memory, got [0, 1] for shape [3, 4]"),
    ({"x1": memory[:12].view(3, 4), "out1": memory[2:14].view(3, 4)}, "out1 memory: expected "
     "disjoint from x1 or identical to it, got partial overlap"),
    ({"x2": memory[:12].view(3, 4), "out1": memory[:12].view(3, 4)}, "out1 memory: expected "
     "disjoint from x2, got an overlap"),
    ({"out1": memory[:12].view(3, 4), "out2": memory[8:20].view(3, 4)}, "out1 memory: expected "
     "disjoint from out2, got an overlap"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "text"), HALF_ERRORS, ids=[e[1][:25] for e in HALF_ERRORS])
def test_bad_halves_are_named_with_what_was_expected(
    rotary: ModuleType, changed: Arguments, text: str
) -> None:
    good = {"x1": torch.zeros(3, 4), "x2": torch.zeros(3, 4), "cos": torch.zeros(3, 4)}
    good |= {"sin": torch.zeros(3, 4), "out1": torch.zeros(3, 4), "out2": torch.zeros(3, 4)}
    with pytest.raises(RuntimeError) as failure:
        rotary.apply_rotary(*(good | changed).values(), conj=False)
    assert str(failure.value).splitlines()[0] == f"rotary.apply_rotary: {text}"


def test_outputs_come_with_k_or_not_at_all(rotary: ModuleType) -> None:
    q, k, cos, sin = small()
    for k_out, k_in, got in ((None, k, "k without k_out"), (k, None, "k_out without k")):
        with pytest.raises(RuntimeError, match=f"k_out presence: expected that of k, got {got}"):
            rotary.ops.rotary_embedding_out(
                torch.empty_like(q), k_out, q, k_in, cos, sin, None, 8, False, False, 1
            )


def test_a_device_without_kernels_is_an_error(rotary: ModuleType) -> None:
    with pytest.raises(NotImplementedError, match="apply_rotary"):
        rotary.apply_rotary(*torch.empty(6, 2, 4, device="meta").unbind(), conj=False)
    q, k, cos, sin = small()
    with pytest.raises((RuntimeError, NotImplementedError)):
        rotary.apply_rotary_transformers(q, k.to("meta"), cos, sin)


def test_arguments_of_other_kinds_only_raise(rotary: ModuleType) -> None:
    bad = (None, 1.0, "text", [], torch.zeros(2, 4, 5, 8).to_sparse())
    bad += (torch.zeros(2, 4, 5, 8, dtype=torch.complex64), torch.zeros(2, 5, 8).bool())
    q, k, cos, sin = small()
    good = [torch.empty_like(q), torch.empty_like(k), q, k, cos, sin]
    for position, value in itertools.product(range(len(good)), bad):
        arguments = [*good[:position], value, *good[position + 1 :]]
        with pytest.raises((RuntimeError, NotImplementedError, TypeError)):
            rotary.ops.apply_rotary_transformers(*arguments, False, 1)


def check_random_overlaps(rotary: ModuleType, count: int, seed: int) -> None:
    """Two outputs placed at random in one buffer: an op refuses what shares an element and takes
    all else.
    """
    choose = random.Random(seed)
    verdicts = set()
    for _ in range(count):
        sizes = (choose.randint(1, 3), choose.randint(1, 3), choose.choice((1, 2, 3)))
        steps = (choose.choice((3, 4, 8, 12, 24)), choose.choice((2, 3, 4, 6, 8)), 1)
        buffer = torch.randn(200)
        views = [buffer.as_strided(sizes, steps, choose.randint(0, 90)) for _ in range(2)]
        indices = torch.arange(200)
        where = [indices.as_strided(sizes, steps, v.storage_offset()).flatten() for v in views]
        shares = len({*where[0].tolist()} & {*where[1].tolist()}) > 0
        repeats = any(w.unique().numel() < w.numel() for w in where)
        x1, x2, cos, sin = torch.randn(4, *sizes)
        expected = x1 * cos - x2 * sin, x2 * cos + x1 * sin
        try:
            rotary.apply_rotary(x1, x2, cos, sin, *views, conj=False)
        except RuntimeError as failure:
            text = str(failure).splitlines()[0]
            assert re.match(r"rotary\.apply_rotary: out[12] (memory|strides): expected", text)
            assert shares or repeats
            verdicts.add("refused")
            continue
        assert not shares
        assert not repeats
        verdicts.add("taken")
        assert torch.equal(views[0], expected[0])
        assert torch.equal(views[1], expected[1])
    assert verdicts == {"refused", "taken"}


def test_outputs_that_share_elements_are_refused(rotary: ModuleType) -> None:
    check_random_overlaps(rotary, count=2000, seed=0)


@pytest.mark.slow
def test_outputs_that_share_elements_are_refused_often(rotary: ModuleType) -> None:
    check_random_overlaps(rotary, count=100_000, seed=1)


def test_views_of_one_fused_buffer_are_rotated_in_place(rotary: ModuleType) -> None:
    qkv = torch.randn(2, 5, 4 + 2 + 2, 8)
    q, k = qkv[:, :, :4].transpose(1, 2), qkv[:, :, 4:6].transpose(1, 2)
    cos, sin = reference.tables(2, 5, 8)
    expected = [reference.fp32_formula(x, cos, sin) for x in (q, k)]
    v = qkv[:, :, 6:].clone()
    rotary.rotary_embedding(q, k, cos, sin)
    assert torch.equal(q, expected[0])
    assert torch.equal(k, expected[1])
    assert torch.equal(qkv[:, :, 6:], v)


def test_gradcheck(rotary: ModuleType) -> None:
    q, k, cos, sin = small(torch.float64)
    q, k = q.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_(), k.requires_grad_()
    checks = (torch.autograd.gradcheck, torch.autograd.gradgradcheck)
    positions = torch.tensor([[4, 0, 1, 1, 2]])
    for check in checks:
        assert check(lambda a, b: rotary.apply_rotary_transformers(a, b, cos, sin), (q, k))
    for interleaved, conj in itertools.product((False, True), repeat=2):
        options = {"rotary_dim": 4, "interleaved": interleaved, "conj": conj}

        def some(a: torch.Tensor, b: torch.Tensor, options: Arguments = options) -> object:
            return rotary.layers.rotary_embedding(a, b, cos[..., :4], sin[..., :4], **options)

        def alone(a: torch.Tensor, options: Arguments = options) -> torch.Tensor:
            table = cos[0, :, :2], sin[0, :, :2], positions
            return rotary.layers.rotary_embedding(a, None, *table, **options)[0]

        assert torch.autograd.gradcheck(some, (q, k))
        assert torch.autograd.gradcheck(alone, (q,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_gradient_is_the_rotation_back(rotary: ModuleType, dtype: torch.dtype) -> None:
    q, k, cos, sin = small(dtype)
    q, k = q.requires_grad_(), k.requires_grad_()
    rotated = rotary.apply_rotary_transformers(q, k, cos, sin)
    with torch.no_grad():
        plain = rotary.apply_rotary_transformers(q, k, cos, sin)
    assert torch.equal(rotated[0], plain[0]), "the graph changes the value"
    assert torch.equal(rotated[1], plain[1]), "the graph changes the value"
    grads = [torch.randn_like(x) for x in rotated]
    before = [grad.clone() for grad in grads]
    got = torch.autograd.grad(rotated, (q, k), grads)
    for grad, kept, result in zip(grads, before, got, strict=True):
        assert torch.equal(grad, kept), "a gradient was written"
        assert torch.equal(result, reference.fp32_formula(grad, cos, sin, conj=True))
    # Of an expanded gradient, and of one result that nobody used.
    result, _ = rotary.apply_rotary_transformers(q, k, cos, sin)
    q_grad, k_grad = torch.autograd.grad(result.sum(), (q, k))
    ones = torch.ones_like(q)
    assert torch.equal(q_grad, reference.fp32_formula(ones, cos, sin, conj=True))
    assert not k_grad.any()


def test_a_table_that_wants_a_gradient_is_an_error(rotary: ModuleType) -> None:
    q, k, cos, sin = small()
    for tables in ((cos.clone().requires_grad_(), sin), (cos, sin.clone().requires_grad_())):
        with pytest.raises(RuntimeError, match="cos and sin: expected tables that require no"):
            rotary.apply_rotary_transformers(q, k, *tables)
        with pytest.raises(RuntimeError, match="cos and sin: expected tables that require no"):
            rotary.layers.rotary_embedding(q, k, *tables)


def test_a_gradient_that_would_be_lost_warns_once(rotary: ModuleType) -> None:
    q, _, cos, sin = small()
    q.requires_grad_()
    rotary._warned = False
    with pytest.warns(UserWarning, match="rotary: an input requires grad") as warned:
        halves = (*q.chunk(2, -1), cos[:, None, :, :4], sin[:, None, :, :4])
        for _ in range(2):
            rotary.apply_rotary(*halves, *torch.empty(2, 2, 4, 5, 4).unbind(), conj=False)
    assert len(warned) == 1
    assert warned[0].filename == __file__


def test_the_layer_obeys_the_contract_of_kernelize(rotary: ModuleType) -> None:
    layer = rotary.layers.apply_rotary_transformers
    assert issubclass(layer, torch.nn.Module)
    assert layer.can_torch_compile
    assert layer.has_backward
    own = {name for name in vars(layer) if not name.startswith("__")}
    assert own == {"forward", "can_torch_compile", "has_backward"}
    assert "__init__" not in vars(layer)


def test_a_training_step_compiles_into_one_graph_for_every_length(rotary: ModuleType) -> None:
    layer = rotary.layers.apply_rotary_transformers()
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    for batch, length in ((2, 5), (3, 9), (5, 17)):
        q = torch.randn(batch, length, 4, 8).transpose(1, 2).requires_grad_()
        k = torch.randn(batch, length, 2, 8).transpose(1, 2).requires_grad_()
        cos, sin = reference.tables(batch, length, 8)
        for tensor, dims in ((q, (0, 2)), (k, (0, 2)), (cos, (0, 1)), (sin, (0, 1))):
            for dim in dims:
                torch._dynamo.mark_dynamic(tensor, dim)
        results, expected = compiled(q, k, cos, sin), layer(q, k, cos, sin)
        assert torch.equal(results[0], expected[0])
        assert torch.equal(results[1], expected[1])
        loss = results[0].square().sum() + results[1].sum()
        wanted = expected[0].square().sum() + expected[1].sum()
        for a, b in zip(
            torch.autograd.grad(loss, (q, k)), torch.autograd.grad(wanted, (q, k)), strict=True
        ):
            assert torch.equal(a, b)
    assert counter.frame_count == 1


def test_inference_compiles_in_place_and_out_of_place(rotary: ModuleType) -> None:
    torch._dynamo.reset()

    def step(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> object:
        a, b = rotary.apply_rotary_transformers(q, k, cos, sin)
        rotary.rotary_embedding(a, b, cos, sin, rotary_dim=8, interleaved=True)
        return a * 2, b

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for length in (3, 6, 11):
            q, k = torch.randn(2, 4, length, 8), torch.randn(2, 2, length, 8)
            arguments = (q, k, *reference.tables(2, length, 8))
            for a, b in zip(compiled(*arguments), step(*arguments), strict=True):
                assert torch.equal(a, b)


def test_the_layer_exports_with_a_dynamic_length(rotary: ModuleType) -> None:
    layer = rotary.layers.apply_rotary_transformers()
    length = torch.export.Dim("length", min=2)
    shapes = ({2: length}, {2: length}, {1: length}, {1: length})
    program = torch.export.export(layer, tuple(small()), dynamic_shapes=shapes)
    q, k = torch.randn(2, 4, 12, 8), torch.randn(2, 2, 12, 8)
    arguments = (q, k, *reference.tables(2, 12, 8))
    for a, b in zip(program.module()(*arguments), layer(*arguments), strict=True):
        assert torch.equal(a, b)


# What the Hub's package gets wrong (kernels spec, section 15, row 4).


@pytest.mark.parametrize("width", [2, 6, 7, 9, 16])
def test_4_tables_of_another_width_are_refused(rotary: ModuleType, width: int) -> None:
    q, k, _, _ = small()
    cos, sin = torch.randn(2, 2, 5, width)
    with pytest.raises(RuntimeError) as failure:
        rotary.layers.apply_rotary_transformers()(q, k, cos, sin)
    assert str(failure.value).splitlines()[0] == (
        f"rotary.apply_rotary_transformers: cos last dimension: expected 8 or 4, got {width}"
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_4_fp32_tables_go_with_16_bit_tensors(rotary: ModuleType, dtype: torch.dtype) -> None:
    q, k, _, _ = small(dtype)
    cos, sin = reference.tables(2, 5, 8)
    results = rotary.layers.apply_rotary_transformers()(q, k, cos, sin)
    for x, result in zip((q, k), results, strict=True):
        assert result.dtype == dtype
        expected = reference.fp32_formula(x, cos, sin)
        assert precision.same_bits(result, expected).all()


def test_4_the_layer_has_a_gradient_and_keeps_its_inputs(rotary: ModuleType) -> None:
    q, k, cos, sin = small()
    before = q.clone(), k.clone()
    layer = rotary.layers.apply_rotary_transformers()
    results = layer(q.requires_grad_(), k, cos, sin)
    results[0].sum().backward()
    assert q.grad is not None
    assert torch.equal(q.detach(), before[0])
    assert torch.equal(k, before[1])
    assert results[1].data_ptr() != k.data_ptr()
