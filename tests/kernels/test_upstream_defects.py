# SPDX-License-Identifier: Apache-2.0
"""What the Hub's activation package gets wrong, as regressions (kernels spec, section 15)."""

from collections.abc import Callable
from types import ModuleType

import activation_reference as reference
import pytest
import torch


@pytest.fixture(scope="module")
def activation(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("activation")


def call(activation: ModuleType, op: str, out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    extra = (0.25,) if op == "fatrelu_and_mul" else ()
    return getattr(activation, op)(out, x, *extra)


def input_like(op: str, out: torch.Tensor) -> torch.Tensor:
    cols = 2 * out.shape[-1] if op in reference.GATED else out.shape[-1]
    return torch.randn(*out.shape[:-1], cols).to(out.dtype)


@pytest.mark.parametrize("op", reference.ALL)
def test_1_an_output_of_other_shape_or_dtype_is_refused(activation: ModuleType, op: str) -> None:
    out = torch.zeros(4, 16)
    x = input_like(op, out)
    for wrong in (torch.zeros(4, 15), torch.zeros(3, 16), torch.zeros(64), torch.zeros(4, 16, 1)):
        with pytest.raises(RuntimeError, match=rf"activation\.{op}: out shape: expected \[4, 16\]"):
            call(activation, op, wrong, x)
        assert not wrong.any()
    with pytest.raises(RuntimeError, match=rf"activation\.{op}: out dtype: expected float32 as in"):
        call(activation, op, out.half(), x)


@pytest.mark.parametrize("shape", [(0, 8), (4, 0), (0,)])
@pytest.mark.parametrize("op", reference.ALL)
def test_1_nothing_to_do_is_not_an_error(
    activation: ModuleType, op: str, shape: tuple[int, ...]
) -> None:
    out = torch.empty(shape)
    assert call(activation, op, out, input_like(op, out)) is out


@pytest.mark.parametrize("op", reference.ALL)
def test_1_row_slices_and_odd_addresses_need_no_copy(activation: ModuleType, op: str) -> None:
    buffer = torch.full((5, 40), 7.0)
    out = buffer[:, 1:34]
    x = torch.randn(5, 80)[:, 3 : 3 + (66 if op in reference.GATED else 33)]
    call(activation, op, out, x)
    assert torch.equal(out, call(activation, op, torch.empty(5, 33), x.contiguous()))
    assert (buffer[:, :1] == 7.0).all()
    assert (buffer[:, 34:] == 7.0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("op", reference.ALL)
def test_2_every_op_runs_on_cpu_in_every_dtype(
    activation: ModuleType, op: str, dtype: torch.dtype
) -> None:
    out = torch.full((3, 37), float("nan"), dtype=dtype)
    x = input_like(op, out)
    expected = reference.eager(op, x.double())
    # Four units of the dtype, absolute where the activation cancels.
    bound = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        call(activation, op, out, x).double(), expected, atol=bound, rtol=bound
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_9_fatrelu_shows_nan(activation: ModuleType, dtype: torch.dtype) -> None:
    nan = float("nan")
    x = torch.tensor([[nan, 1.0, -1.0, 2.0, nan, 1.0]] * 7, dtype=dtype)
    out = torch.zeros(7, 3, dtype=dtype)
    for threshold in (0.0, 0.25, -3.0, 100.0):
        activation.fatrelu_and_mul(out, x, threshold)
        assert out[:, :2].isnan().all()
        assert not out[:, 2].isnan().any()
