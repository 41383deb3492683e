"""No call of an operator reads or writes beyond a buffer: it computes or it refuses.

Every case starts from operands that fit and spoils some of them. What comes out is
either a :class:`CormorantError` or what the same numbers give in fresh memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from torch_cormorant.errors import (
    ConfigError,
    CormorantError,
    DegreeError,
    DtypeError,
    EdgeIndexError,
    ShapeError,
)
from torch_cormorant.ops import (
    EdgeGeometry,
    PathTable,
    build_plan,
    cg_product,
    edge_dots,
    fold_columns,
    folded_square,
    from_complex,
    neighbour_sum,
    to_complex,
    use_backend,
)

CASES = int(os.environ.get("CORMORANT_FUZZ", "150"))
"""Cases for each operator; ``make fuzz`` and ``make sanitize`` run more."""
INDEX = torch.tensor([[0, 1, 2, 0, 1], [1, 0, 1, 2, 2]])
TABLE, FOLDED = PathTable(1, 2, 2), PathTable(2, 2, 2, folded=True)
operators = torch.ops.torch_cormorant


def draw(*shape: int, dtype: torch.dtype = torch.complex128) -> Tensor:
    generator = torch.Generator().manual_seed(7 + sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype)


def by_names(
    x: Tensor, g: Tensor, sh: Tensor, packed: Tensor, header: Tensor
) -> list[Tensor]:
    found: list[Tensor] = operators.neighbour_sum(
        x, g, sh, packed, header, 3, TABLE.key, "auto"
    )
    return found


def backward_by_names(*args: Tensor) -> list[Tensor]:
    inputs, grads = args[:5], list(args[5:])
    need = [True, True, True]
    found: list[Tensor] = operators.neighbour_sum_backward(
        *inputs, TABLE.key, "auto", need, grads
    )
    return found


def calls() -> dict[str, tuple[Callable[..., Any], list[Tensor]]]:
    """Functions of tensors with operands that fit."""
    plan = build_plan(INDEX, 3, 3)
    x, y = draw(3, 9, 2), draw(3, 9, 2) + 1
    g, sh = draw(5, 2, 2), draw(5, 4, dtype=torch.float64)
    grads = [draw(3, 2 * l + 1, n, 2) for l, n in enumerate(TABLE.counts)]
    squares = [draw(3, 2 * l + 1, n, 2) for l, n in enumerate(FOLDED.counts)]
    u, pos = draw(5, 3, 2), draw(3, 3, dtype=torch.float64)
    vec = pos[INDEX[1]] - pos[INDEX[0]]
    both = [draw(3, 9, 2, 2, dtype=torch.float64) for _ in range(2)]
    return {
        "neighbour_sum": (
            lambda x, g, sh: neighbour_sum(x, g, sh, plan, TABLE),
            [x, g, sh],
        ),
        "neighbour_sum by names": (by_names, [x, g, sh, plan.packed, plan.header]),
        "neighbour_sum_backward": (
            backward_by_names,
            [x, g, sh, plan.packed, plan.header, *grads],
        ),
        "edge_dots": (edge_dots, [x, y, INDEX[1], INDEX[0]]),
        "edge_dots_backward": (
            lambda *a: operators.edge_dots_backward(*a, [True, True], "auto"),
            [x, y, INDEX[1], INDEX[0], u],
        ),
        "folded_square": (lambda x: folded_square(x, FOLDED), [x]),
        "node_product": (
            lambda x, y: operators.node_product(x, y, FOLDED.key, "auto"),
            [x, y],
        ),
        "node_product_backward": (
            lambda x, y, *d: operators.node_product_backward(
                x, y, FOLDED.key, "auto", list(d)
            ),
            [x, y, *squares],
        ),
        "cg_product": (cg_product, both),
        "EdgeGeometry": (
            lambda index, vec: EdgeGeometry(index, vec, 3).sh(2),
            [INDEX, vec],
        ),
        "EdgeGeometry, not validated": (
            lambda index, vec, x, g: neighbour_sum(
                x,
                g,
                (e := EdgeGeometry(index, vec, 3, validate=False)).sh(1),
                e.plan,
                TABLE,
            ),
            [INDEX, vec, x, g],
        ),
        "build_plan": (
            lambda index: build_plan(index, 3, 3, chunk_slots=2).packed,
            [INDEX],
        ),
        "to_complex": (to_complex, both[:1]),
        "from_complex": (from_complex, [x]),
    }


DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex32,
    torch.complex64,
    torch.complex128,
    torch.int32,
    torch.int64,
    torch.bool,
)
NUMBERS = (-1, 3, 5, 2**31, 2**40, -(2**31), 2**62, -(2**63))


def _cast(x: Tensor, pick: int) -> Tensor:
    dtype = DTYPES[pick % len(DTYPES)]
    if x.is_complex() and not dtype.is_complex:
        x = x.real
    return x.to(dtype)


def _resize(x: Tensor, pick: int) -> Tensor:
    """Another length of one axis: none, one less, one more, many."""
    if not x.ndim:
        return x
    axis = pick % x.ndim
    size = (0, x.shape[axis] - 1, x.shape[axis] + 1, 300)[pick // 4 % 4]
    shape = [*x.shape[:axis], max(size, 0), *x.shape[axis + 1 :]]
    return torch.zeros(shape, dtype=x.dtype)


def _rank(x: Tensor, pick: int) -> Tensor:
    return (x.unsqueeze(0), x.flatten(), x.new_tensor(1))[pick % 3]


def _stride(x: Tensor, pick: int) -> Tensor:
    """The same numbers in other memory, or one number everywhere."""
    if not x.ndim or not x.numel() or x.dtype == torch.complex32:
        return x
    axis = pick % x.ndim
    wide = x.repeat_interleave(2, axis)
    every = [slice(None)] * axis + [slice(None, None, 2)]
    kinds = (wide[tuple(every)], x.narrow(axis, 0, 1).expand_as(x), x.flip(axis))
    return kinds[pick // 4 % 3]


def _value(x: Tensor, pick: int) -> Tensor:
    """One wild number in an index tensor."""
    if x.dtype != torch.int64 or not x.numel():
        return x
    wild = x.clone()
    wild.view(-1)[pick % x.numel()] = NUMBERS[pick // 7 % len(NUMBERS)]
    return wild


SPOIL = (_cast, _resize, _rank, _stride, _value)
changes = st.lists(
    st.tuples(
        st.integers(0, 20), st.integers(0, len(SPOIL) - 1), st.integers(0, 2**16)
    ),
    min_size=1,
    max_size=3,
)


def flat(found: object) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    assert isinstance(found, Sequence)
    return [part for part in found if isinstance(part, Tensor)]


def spoilt(
    operands: list[Tensor], kinds: Sequence[tuple[int, int, int]]
) -> list[Tensor]:
    args = list(operands)
    for where, kind, pick in kinds:
        at = where % len(args)
        args[at] = SPOIL[kind](args[at], pick)
    return args


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("name", list(calls()))
@settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(kinds=changes)
def test_spoilt_operands_are_refused_or_computed(
    name: str, kinds: Sequence[tuple[int, int, int]]
) -> None:
    function, operands = calls()[name]
    args = spoilt(operands, kinds)
    try:
        found = flat(function(*args))
    except CormorantError:
        return
    pairs = zip(args, operands, strict=True)
    if name.endswith("names") and any(new is not old for new, old in [*pairs][3:]):
        return  # another plan: each implementation reads its own part of it
    with use_backend("portable"):
        fresh = flat(function(*(arg.clone().contiguous() for arg in args)))
    for part, other in zip(found, fresh, strict=True):
        torch.testing.assert_close(part, other, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("name", list(calls()))
def test_operands_that_fit_are_computed(name: str) -> None:
    function, operands = calls()[name]
    assert all(bool(part.isfinite().all()) for part in flat(function(*operands)))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"x": torch.complex64}, DtypeError, "g must be torch.complex64"),
        ({"x": torch.float16}, DtypeError, "x must be float32, float64"),
        ({"x": (2, 9, 2)}, ShapeError, r"x must have shape \[3, 9, 2\]"),
        ({"x": (3, 16, 2)}, ShapeError, r"9 components on axis 1.*got 16"),
        ({"g": (4, 2, 2)}, ShapeError, r"g must have shape \[5, 2, 2\]"),
        ({"g": (5, 2, 3)}, ShapeError, r"g must have shape \[5, 2, 2\]"),
        ({"sh": (5, 1)}, ShapeError, r"sh must have shape \[5, 4\]"),
        ({"sh": torch.float32}, DtypeError, "sh must be torch.float64"),
    ],
)
def test_the_neighbour_sum_names_what_does_not_fit(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    shapes = {"x": (3, 9, 2), "g": (5, 2, 2), "sh": (5, 4)}
    args = {}
    for name, shape in shapes.items():
        dtype = torch.float64 if name == "sh" else torch.complex128
        new = change.get(name, shape)
        if isinstance(new, torch.dtype):
            args[name] = draw(*shape, dtype=torch.float32).to(new)
        else:
            args[name] = draw(*new, dtype=dtype)
    plan = build_plan(INDEX, 3, 3)
    for backend in ("auto", "portable"):
        with pytest.raises(error, match=words):
            neighbour_sum(args["x"], args["g"], args["sh"], plan, TABLE, backend)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({1: draw(3, 9, 2).to(torch.complex64)}, DtypeError, "b must be"),
        ({1: draw(3, 4, 2)}, ShapeError, "b must have shape"),
        ({0: draw(3, 8, 2)}, ShapeError, r"\(lmax \+ 1\)\^2"),
        ({2: INDEX[1].int()}, DtypeError, "index_a must be torch.int64"),
        ({3: INDEX[1] + 1}, EdgeIndexError, "index_b must hold 0 to 2"),
        ({2: INDEX[1] - 1}, EdgeIndexError, "index_a must hold 0 to 2"),
        ({3: INDEX[1, :4]}, ShapeError, "index_b must have shape"),
    ],
)
def test_edge_dots_names_what_does_not_fit(
    change: dict[int, Tensor], error: type[Exception], words: str
) -> None:
    args = [draw(3, 9, 2), draw(3, 9, 2), INDEX[1], INDEX[0]]
    for at, value in change.items():
        args[at] = value
    for backend in ("auto", "portable"):
        with pytest.raises(error, match=words):
            edge_dots(*args, backend=backend)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_edge_list_with_a_wild_index_makes_no_plan(number: int) -> None:
    index = INDEX.clone()
    index[1, 2] = number
    with pytest.raises(EdgeIndexError, match="target node"):
        build_plan(index, 3, 3)


@pytest.mark.parametrize("part", ["rowptr", "csr_source", "csr_edge", "order"])
def test_a_plan_that_was_changed_is_refused(part: str) -> None:
    plan = build_plan(INDEX, 3, 3)
    getattr(plan, part)[0] = 2
    with pytest.raises(EdgeIndexError, match="changed after it was made"):
        neighbour_sum(
            draw(3, 9, 2), draw(5, 2, 2), draw(5, 4, dtype=torch.float64), plan, TABLE
        )


@pytest.mark.parametrize("part", ["rowptr", "csr_source", "csr_edge"])
@pytest.mark.parametrize("number", [k for k in NUMBERS if k != 3])
def test_changes_behind_the_back_of_pytorch_are_refused_too(
    part: str, number: int
) -> None:
    """Writing through NumPy counts no version; the kernel looks at every index."""
    plan = build_plan(INDEX, 3, 3)
    getattr(plan, part).numpy()[1] = number
    with pytest.raises((EdgeIndexError, IndexError)):
        neighbour_sum(
            draw(3, 9, 2), draw(5, 2, 2), draw(5, 4, dtype=torch.float64), plan, TABLE
        )


def test_memory_that_was_given_back_is_not_read() -> None:
    """Some libraries shrink the storages of tensors between two steps."""
    x, g, sh = draw(3, 9, 2), draw(5, 2, 2), draw(5, 4, dtype=torch.float64)
    plan = build_plan(INDEX, 3, 3)
    g.untyped_storage().resize_(0)
    with pytest.raises(ShapeError, match="the memory of g was freed"):
        neighbour_sum(x, g, sh, plan, TABLE)
    plan.packed.untyped_storage().resize_(8)
    with pytest.raises(ShapeError, match="the memory of the plan was freed"):
        neighbour_sum(x, draw(5, 2, 2), sh, plan, TABLE)


def test_tables_keep_to_the_degrees_that_exist() -> None:
    with pytest.raises(DegreeError, match="lmax1"):
        PathTable(10**6, 1, 1)
    plan = build_plan(INDEX, 3, 3)
    x, g, sh = draw(3, 9, 2), draw(5, 2, 2), draw(5, 4, dtype=torch.float64)
    for key, error in (([1, 2], ConfigError), ([1, 2, 10**9, 0, 0], DegreeError)):
        with pytest.raises(error):
            operators.neighbour_sum(x, g, sh, plan.packed, plan.header, 3, key, "auto")


def test_a_square_needs_a_folded_table_and_columns_that_fit() -> None:
    with pytest.raises(ConfigError, match="folded"):
        folded_square(draw(3, 9, 2), TABLE)
    full = PathTable(2, 2, 2)
    with pytest.raises(ShapeError, match="columns"):
        fold_columns(torch.zeros(4, 3), full, FOLDED, 1, 2)
