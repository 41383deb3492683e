from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from torch_cormorant.ops import portable, square
from torch_cormorant.ops.precision import exact, no_tf32


@pytest.fixture
def allowed() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def state() -> object:
    switch = torch.backends.cuda.matmul
    return getattr(switch, "fp32_precision", None) or switch.allow_tf32


@pytest.mark.usefixtures("allowed")
def test_tf32_is_off_inside_and_as_it_was_outside() -> None:
    before = state()
    with no_tf32():
        assert state() != before
    assert state() == before
    with pytest.raises(KeyError), no_tf32():
        raise KeyError
    assert state() == before


def test_a_process_without_tf32_is_left_alone() -> None:
    before = state()
    with no_tf32():
        assert state() == before
    assert state() == before


@pytest.mark.usefixtures("allowed")
def test_functions_of_tensors_run_without_tf32_except_on_cpus() -> None:
    before = state()
    seen = exact(lambda _: state())
    assert seen(torch.empty(1, device="meta")) != before
    assert seen(torch.empty(1)) == before
    assert state() == before


@pytest.mark.parametrize(
    "contraction",
    [portable.forward, portable.backward, square._product, square._spread],
)
def test_contractions_are_exact(contraction: object) -> None:
    assert hasattr(contraction, "__wrapped__")
