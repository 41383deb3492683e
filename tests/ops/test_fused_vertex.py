"""The fused vertex step and norm against the compositions that they replace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from torch_cormorant import Cormorant, CormorantConv
from torch_cormorant.errors import DtypeError, ShapeError
from torch_cormorant.nn import SO3Norm, VertexMixing
from torch_cormorant.nn.readout import scalars
from torch_cormorant.ops import cpu_kernel, fused
from torch_cormorant.ops.invariants import level_invariants
from torch_cormorant.ops.norm import so3_norm
from torch_cormorant.ops.vertex import vertex_step

pytestmark = pytest.mark.skipif(
    bool(cpu_kernel.problem()), reason="the CPU kernel is not there"
)

Tower = Callable[..., list[Tensor]]
Agree = Callable[..., None]
EXACT = {torch.float64: 1e-12, torch.float32: 2e-5}
# lmax, lmax_in, lmax_sh, channels, outputs
SIZES = [
    (0, 0, 0, 1, 1),
    (2, 0, 2, 16, 3),
    (2, 2, 2, 5, 16),
    (3, 3, 3, 3, 5),
    (1, 3, 2, 24, 1),
    (4, 1, 3, 1, 24),
    (4, 4, 4, 2, 2),
    (0, 2, 1, 33, 33),
]


def draw(*shape: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    kind = torch.complex128 if dtype.is_complex else torch.float64
    return torch.randn(shape, generator=generator, dtype=kind).to(dtype)


def step_of(
    sizes: Sequence[int],
    dtype: torch.dtype = torch.float64,
    *,
    complex_: bool = True,
    paths: str = "all",
    nodes: int = 5,
) -> tuple[VertexMixing, list[Tensor]]:
    """A module and its operands: aggregates, x, weights."""
    lmax, lmax_in, lmax_sh, channels, outputs = sizes
    mixing = VertexMixing(
        channels,
        outputs,
        lmax=lmax,
        lmax_in=lmax_in,
        lmax_sh=lmax_sh,
        paths=paths,
        complex=complex_,
    ).to(dtype)
    rows = dtype.to_complex() if complex_ else dtype
    operands = [
        draw(nodes, 2 * l + 1, count, channels, dtype=rows)
        for l, count in enumerate(mixing.sum_paths.counts)
    ]
    operands.append(draw(nodes, (lmax_in + 1) ** 2, channels, dtype=rows))
    operands += [draw(*weight.shape, dtype=dtype) for weight in mixing.weights()]
    return mixing, operands


def function_of(mixing: VertexMixing) -> Callable[..., list[Tensor]]:
    """The forward pass as a function of all operands."""
    sums = len(mixing.sum_paths.counts)
    names = [f"weights.weight_l{l}" for l in range(mixing.lmax + 1)]

    def run(*operands: Tensor) -> list[Tensor]:
        weights = dict(zip(names, operands[sums + 1 :], strict=True))
        given = (operands[:sums], operands[sums])
        return [torch.func.functional_call(mixing, weights, given)]

    return run


def step(mixing: VertexMixing) -> Callable[..., Tensor]:
    """The operator itself."""
    sums = len(mixing.sum_paths.counts)
    return lambda *o: vertex_step(o[:sums], o[sums], o[sums + 1 :], mixing.paths.key)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("complex_", "paths"), [(True, "all"), (False, "even")])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_values_and_gradients_of_both_orders(
    sizes: tuple[int, ...],
    complex_: bool,
    paths: str,
    dtype: torch.dtype,
    tower: Tower,
    agree: Agree,
) -> None:
    mixing, operands = step_of(sizes, dtype, complex_=complex_, paths=paths, nodes=11)
    function = function_of(mixing)
    found = tower(function, operands, 2)
    with fused.enabled(False):
        expected = tower(function, operands, 2)
    agree(found, expected, EXACT[dtype])


@pytest.mark.parametrize("name", ["avx512", "avx2", "baseline"])
@pytest.mark.parametrize("complex_", [True, False])
def test_every_instruction_set(
    name: str, complex_: bool, tower: Tower, agree: Agree
) -> None:
    library = cpu_kernel.library()
    if not library.cormorant_use(name.encode()):
        pytest.skip(f"this processor has no {name}")
    try:
        mixing, operands = step_of((2, 2, 1, 5, 6), complex_=complex_)
        x, weight = (
            draw(4, 9, 2, 5, dtype=torch.float64),
            draw(3, 5, dtype=torch.float64),
        )
        norm = SO3Norm(5, 2)
        found = tower(function_of(mixing), operands, 2) + tower(
            norm_of(norm), [x, weight], 2
        )
        with fused.enabled(False):
            expected = tower(function_of(mixing), operands, 2) + tower(
                norm_of(norm), [x, weight], 2
            )
    finally:
        library.cormorant_use(b"")
    agree(found, expected, 1e-12)


@pytest.mark.parametrize("complex_", [True, False])
def test_gradcheck_and_gradgradcheck(complex_: bool) -> None:
    mixing, operands = step_of((1, 1, 1, 2, 2), complex_=complex_, nodes=2)
    leaves = [part.requires_grad_() for part in operands]
    assert torch.autograd.gradcheck(step(mixing), leaves)
    assert torch.autograd.gradgradcheck(step(mixing), leaves)


@pytest.mark.parametrize("given", [[0], [1], [2], [4], [0, 2, 3]], ids=str)
def test_second_order_with_some_cotangents_only(given: list[int], agree: Agree) -> None:
    """Gradients of some gradients: aggregates 0 and 1, x 2, weights 3 and 4."""
    mixing, operands = step_of((1, 1, 1, 3, 4))
    found = []
    for on in (True, False):
        with fused.enabled(on):
            leaves = [part.detach().requires_grad_() for part in operands]
            (out,) = function_of(mixing)(*leaves)
            some = [leaves[k] for k in given]
            first = torch.autograd.grad(out.pow(3).sum(), some, create_graph=True)
            loss = sum(part.abs().square().sum() for part in first)
            found.append(torch.autograd.grad(loss, leaves, materialize_grads=True))
    agree(*found, 1e-12)


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, ...]]:
    """Whether calls of the kernel wrote gradients of aggregates, x and weights."""
    calls: list[tuple[bool, ...]] = []
    real = cpu_kernel.call

    def call(name: str, struct: Any) -> None:
        if name == "cormorant_vertex":
            calls.append((bool(struct.drows), bool(struct.dx), bool(struct.dweights)))
        real(name, struct)

    monkeypatch.setattr(cpu_kernel, "call", call)
    return calls


def test_only_gradients_that_are_asked_for_are_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mixing, operands = step_of((1, 1, 1, 3, 4))
    calls = recorded(monkeypatch)
    leaves = [part.requires_grad_() for part in operands]
    out = step(mixing)(*[leaf * 1 for leaf in leaves]).square().sum()
    force = torch.autograd.grad(out, leaves[2], create_graph=True)[0]
    force.abs().square().sum().backward()
    # values, dx alone, second order (linear in aggregates), first order
    assert calls == [
        (False, False, False),
        (False, True, False),
        (False, True, True),
        (True, True, True),
    ]


def test_no_nodes() -> None:
    mixing, operands = step_of((2, 2, 2, 3, 4), nodes=0)
    leaves = [part.requires_grad_() for part in operands]
    out = step(mixing)(*leaves)
    assert out.shape == (0, 9, 2, 4)
    grads = torch.autograd.grad(out.sum(), leaves)
    assert not any(grad.count_nonzero() for grad in grads)


def test_any_number_of_threads_gives_equal_bits(tower: Tower) -> None:
    mixing, operands = step_of((2, 2, 2, 16, 16), torch.float32, nodes=300)
    x, weight = draw(3000, 9, 2, 16, dtype=torch.float32), torch.ones(3, 16)
    norm = SO3Norm(16, 2)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            values = tower(function_of(mixing), operands, 2)
            found.append(values + tower(norm_of(norm), [x, weight], 2))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_operands_of_any_layout() -> None:
    mixing, operands = step_of((2, 2, 2, 3, 4))
    plain = step(mixing)(*operands)
    turned = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in operands]
    assert torch.equal(step(mixing)(*turned), plain)
    conjugate = [
        x.conj().resolve_conj().conj() if x.is_complex() else x for x in turned
    ]
    assert torch.equal(step(mixing)(*conjugate), plain)


@pytest.mark.parametrize(
    ("at", "change", "error", "text"),
    [
        (0, lambda x: x[:, :, :1], ShapeError, r"aggregate\[0\] must have shape"),
        (0, lambda x: x.to(torch.complex64), DtypeError, r"aggregate\[0\] must be"),
        (2, lambda x: x[:, :3], ShapeError, "x must have shape"),
        (2, lambda x: x.real, DtypeError, r"aggregate\[0\] must be"),
        (4, lambda x: x[..., :-1], ShapeError, r"weights\[1\] must have shape"),
        (3, lambda x: x[0], ShapeError, r"weights\[0\] must have shape"),
        (4, lambda x: x.float(), DtypeError, r"weights\[1\] must be"),
    ],
    ids=range(7),
)
def test_operands_that_do_not_fit_are_refused(
    at: int, change: Callable[[Tensor], Tensor], error: type[Exception], text: str
) -> None:
    mixing, operands = step_of((1, 1, 1, 3, 4))
    operands[at] = change(operands[at])
    with pytest.raises(error, match=text):
        step(mixing)(*operands)


def third(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A third derivative of a scalar function of x."""
    x = x.detach().requires_grad_()
    value = function(x)
    for _ in range(3):
        (grad,) = torch.autograd.grad(value, x, create_graph=True)
        value = grad.abs().square().sum()
    return grad.detach()


def test_third_derivatives_are_those_of_the_composition() -> None:
    mixing, operands = step_of((1, 1, 1, 2, 2), nodes=2)
    norm, weight = SO3Norm(2, 1).double(), draw(2, 2, dtype=torch.float64)

    def of_step(x: Tensor) -> Tensor:  # operands that depend on each other
        aggregate = [part * x.abs().square().sum() for part in operands[:2]]
        return mixing(aggregate, x).pow(2).sum()

    def of_norm(x: Tensor) -> Tensor:
        return norm_of(norm)(x, weight)[0].pow(3).sum()

    def of_invariants(x: Tensor) -> Tensor:
        return scalars([x, 2 * x]).pow(2).sum()

    planes = draw(2, 4, 2, 2, dtype=torch.float64)
    cases = (of_step, operands[2]), (of_norm, planes), (of_invariants, planes)
    for function, x in cases:
        found = third(function, x)
        with fused.enabled(False):
            torch.testing.assert_close(found, third(function, x), rtol=1e-9, atol=1e-9)


def test_transforms_and_subclasses_take_the_composition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Own(Tensor):
        pass

    mixing, operands = step_of((1, 1, 1, 3, 4))
    calls = recorded(monkeypatch)
    expected = mixing(operands[:2], operands[2])
    assert len(calls) == 1
    own = mixing(operands[:2], operands[2].as_subclass(Own))
    torch.testing.assert_close(own.as_subclass(Tensor), expected)
    rows = torch.func.vmap(lambda x: mixing(operands[:2], x))(operands[2][None])
    torch.testing.assert_close(rows[0], expected)
    for backend in ("portable", "reference"):
        mixing.backend = backend
        torch.testing.assert_close(mixing(operands[:2], operands[2]), expected)
    assert len(calls) == 1


def test_what_hangs_on_the_weights_takes_effect() -> None:
    class Double(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    mixing, operands = step_of((1, 1, 1, 3, 4))
    before = mixing(operands[:2], operands[2])
    for l in range(2):
        parametrize.register_parametrization(mixing.weights, f"weight_l{l}", Double())
    torch.testing.assert_close(mixing(operands[:2], operands[2]), 2 * before)


# ----------------------------------------------------------------------------- norm


def norm_of(norm: SO3Norm) -> Callable[..., list[Tensor]]:
    return lambda x, w: [torch.func.functional_call(norm, {"weight": w}, (x,))]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("channels", [1, 3, 16, 33])
@pytest.mark.parametrize("lmax", [0, 3])
def test_norm(
    lmax: int,
    channels: int,
    planes: int,
    dtype: torch.dtype,
    tower: Tower,
    agree: Agree,
) -> None:
    norm = SO3Norm(channels, lmax).to(dtype)
    x = 0.3 * draw(7, (lmax + 1) ** 2, planes, channels, dtype=dtype)
    weight = draw(lmax + 1, channels, dtype=dtype)
    found = tower(norm_of(norm), [x, weight], 2)
    with fused.enabled(False):
        expected = tower(norm_of(norm), [x, weight], 2)
    agree(found, expected, 10 * EXACT[dtype])


def test_gradients_of_the_norm() -> None:
    x = draw(2, 4, 2, 3, dtype=torch.float64).requires_grad_()
    weight = draw(2, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda *o: so3_norm(*o, 0.1), (x, weight))
    assert torch.autograd.gradgradcheck(lambda *o: so3_norm(*o, 0.1), (x, weight))


@pytest.mark.parametrize(
    ("x", "weight", "error"),
    [
        (torch.ones(2, 3, 2, 3), torch.ones(1, 3), ShapeError),
        (torch.ones(2, 4, 2, 3), torch.ones(1, 3), ShapeError),
        (torch.ones(2, 4, 3), torch.ones(2, 3), ShapeError),
        (torch.ones(2, 4, 2, 3), torch.ones(2, 3).double(), DtypeError),
        (torch.ones(2, 4, 2, 3).half(), torch.ones(2, 3).half(), DtypeError),
    ],
)
def test_norms_of_other_shapes_are_refused(
    x: Tensor, weight: Tensor, error: type[Exception]
) -> None:
    with pytest.raises(error):
        so3_norm(x, weight, 0.1)


# ------------------------------------------------------------------------ invariants


def invariants(*levels: Tensor) -> list[Tensor]:
    return [scalars(levels)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize(
    "sizes",
    [[(0, 1)], [(3, 16)], [(2, 5), (2, 33), (0, 3)], [(1, 24), (4, 2)]],
    ids=str,
)
def test_invariants(
    sizes: list[tuple[int, int]],
    planes: int,
    dtype: torch.dtype,
    tower: Tower,
    agree: Agree,
) -> None:
    levels = [draw(6, (l + 1) ** 2, planes, c, dtype=dtype) for l, c in sizes]
    found = tower(invariants, levels, 2)
    with fused.enabled(False):
        expected = tower(invariants, levels, 2)
    agree(found, expected, EXACT[dtype])


def test_gradients_of_invariants() -> None:
    levels = [leaf(draw(2, 4, 2, 3, dtype=torch.float64)) for _ in range(2)]
    assert torch.autograd.gradcheck(invariants, levels)
    assert torch.autograd.gradgradcheck(invariants, levels)


@pytest.mark.parametrize("given", [[0], [1]])
def test_second_order_of_invariants_of_one_level(
    given: list[int], agree: Agree
) -> None:
    sizes, found = [(1, 3), (2, 4)], []
    for on in (True, False):
        with fused.enabled(on):
            drawn = (draw(3, (l + 1) ** 2, 2, c, dtype=torch.float64) for l, c in sizes)
            levels = [*map(leaf, drawn)]
            value = scalars(levels).pow(3).sum()
            some = [levels[k] for k in given]
            first = torch.autograd.grad(value, some, create_graph=True)
            loss = first[0].pow(3).sum()
            found.append(torch.autograd.grad(loss, levels))
    agree(*found, 1e-12)


@pytest.mark.parametrize(
    ("level", "error"),
    [
        (torch.ones(2, 3, 2, 3), ShapeError),
        (torch.ones(2, 4, 3, 3), ShapeError),
        (torch.ones(2, 4, 1, 3), ShapeError),
        (torch.ones(3, 4, 2, 3), ShapeError),
        (torch.ones(2, 4, 2, 3).double(), DtypeError),
    ],
)
def test_levels_that_do_not_fit_are_refused(
    level: Tensor, error: type[Exception]
) -> None:
    with pytest.raises(error):
        level_invariants([torch.ones(2, 1, 2, 5), level])


# ------------------------------------------------------------- as PyTorch sees them


def operator_calls(complex_: bool) -> dict[str, tuple[Any, ...]]:
    mixing, operands = step_of((1, 1, 1, 2, 3), complex_=complex_, nodes=3)
    out = step(mixing)(*operands)
    x, weight = draw(3, 4, 2, 2, dtype=torch.float64), torch.ones(2, 2).double()
    grads, there = [draw(*out.shape, dtype=torch.float64)], [True]
    problem = ([*map(leaf, operands)], [], mixing.paths.key, [])
    normed = ([leaf(x), leaf(weight)], [], [], [0.1])
    five, two = [True] * 5, [True] * 2
    tangents = [draw(*part.shape, dtype=part.dtype) for part in operands]
    levels = ([leaf(x), leaf(draw(3, 1, 2, 5, dtype=torch.float64))], [], [], [])
    rows = level_invariants(levels[0])
    return {
        "level_invariants": levels,
        "level_invariants_backward": (*levels, [leaf(rows)], there, two),
        "level_invariants_double_backward": (
            *levels,
            [rows.detach()],
            there,
            [x, levels[0][1].detach()],
            two,
            two,
            there,
        ),
        "vertex_step": problem,
        "vertex_step_backward": (*problem, [*map(leaf, grads)], there, five),
        "vertex_step_double_backward": (
            *problem,
            grads,
            there,
            tangents,
            five,
            five,
            there,
        ),
        "so3_norm": normed,
        "so3_norm_backward": (*normed, [leaf(x)], there, two),
        "so3_norm_double_backward": (*normed, [x], there, [x, weight], two, two, there),
    }


def leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("name", list(operator_calls(complex_=False)))
def test_opcheck(name: str, complex_: bool) -> None:
    arguments = operator_calls(complex_)[name]
    tests = ["test_schema", "test_faketensor"]
    if not name.endswith("double_backward"):
        tests.append("test_autograd_registration")
    operator = getattr(torch.ops.torch_cormorant, name)
    torch.library.opcheck(operator, arguments, test_utils=tests)


# --------------------------------------------------------------------- whole models


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_force_loss_of_a_potential(
    dtype: torch.dtype, complex_: bool, agree: Agree
) -> None:
    torch.manual_seed(0)
    model = Cormorant.potential([1, 6, 8], channels=5, complex=complex_).to(dtype)
    z = torch.tensor([8, 1, 1, 6, 1, 6, 1])
    pos = 1.5 * draw(7, 3, dtype=dtype)
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    found = []
    for on in (True, False):
        with fused.enabled(on):
            at = pos.clone().requires_grad_()
            energy = model(z, at, batch)
            (slope,) = torch.autograd.grad(energy.sum(), at, create_graph=True)
            loss = energy.square().sum() + slope.square().sum()
            leaves = [w for w in model.parameters() if w.requires_grad]
            grads = torch.autograd.grad(loss, leaves, materialize_grads=True)
            found.append([energy.detach(), slope.detach(), *grads])
    agree(*found, 20 * EXACT[dtype])


@pytest.mark.parametrize("lmax", [0, 1, 4])
def test_gradients_of_a_layer(lmax: int, agree: Agree) -> None:
    torch.manual_seed(0)
    conv = CormorantConv(4, 6, lmax=lmax, lmax_in=1, cutoff=4.0).double()
    index = torch.tensor([[0, 1, 2, 3, 1, 0], [1, 2, 3, 0, 0, 2]])
    x = draw(4, 4, 2, 4, dtype=torch.float64)
    vec = draw(6, 3, dtype=torch.float64)
    found = []
    for on in (True, False):
        with fused.enabled(on):
            leaves = [leaf(x), leaf(vec), *conv.parameters()]
            out = conv(leaves[0], index, leaves[1])
            first = torch.autograd.grad(
                out.square().sum(), leaves[:2], create_graph=True
            )
            loss = out.pow(3).sum() + sum(part.square().sum() for part in first)
            grads = torch.autograd.grad(loss, leaves, materialize_grads=True)
            found.append([out.detach(), *(part.detach() for part in first), *grads])
    agree(*found, 1e-11)
