from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from torch_cormorant.errors import (
    CoincidentAtomsError,
    ConfigError,
    ExportError,
    NonFiniteError,
    ShapeError,
    SpeciesError,
)
from torch_cormorant.interfaces import traced as module
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.fixed_graph import fixed_function
from torch_cormorant.interfaces.folding import fold_constants
from torch_cormorant.interfaces.traced import TracedPotential
from torch_cormorant.models import Cormorant
from torch_cormorant.models.energy import Result

Z = torch.tensor([8, 1, 1, 8, 1])


def engine(dtype: torch.dtype = torch.float64, **options: object) -> Engine:
    sizes = {"channels": 2, "num_levels": 1, "lmax": 1, "cutoff": 3.0} | options
    model = Cormorant.potential([1, 8], repulsion="zbl", **sizes)
    model.set_units({1: -13.6, 8: -430.0}, 0.5)
    model.head.rescale(10.0)
    return Engine(model.double().eval(), dtype=dtype)


@pytest.fixture(scope="module")
def pos() -> Tensor:
    drawn = torch.randn(5, 3, generator=torch.Generator().manual_seed(3))
    return 1.4 * drawn.double()


@pytest.fixture(scope="module")
def traced(pos: Tensor) -> TracedPotential:
    return TracedPotential(engine(), Z, pos)


def close(found: Result, expected: Result, rtol: float) -> None:
    for name in ("energy", "energies", "forces"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    ("lmax", "radial"),
    [(1, "gaussian"), (2, "bessel"), (3, "bessel"), (1, "species")],
)
def test_results_are_those_of_the_engine(lmax: int, radial: str, pos: Tensor) -> None:
    known = radial == "species"
    eager = engine(lmax=lmax, radial=radial, num_levels=2, species_scale=known)
    traced = TracedPotential(eager, Z, pos)
    before = pos.clone()
    for moved in (pos, 1.1 * pos, pos + torch.tensor([9.0, 0, 0]), pos * 2.5):
        close(traced(moved), eager(Z, moved), 1e-12)
    assert torch.equal(pos, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(dtype: torch.dtype, pos: Tensor) -> None:
    eager = engine(torch.float32)
    traced = TracedPotential(eager, Z, pos)
    expected = traced(pos)
    with torch.autocast("cpu", dtype=dtype):
        found, again = traced(pos), TracedPotential(eager, Z, pos)(pos)
    for out in (found, again):
        assert torch.equal(out.forces, expected.forces)
        assert torch.equal(out.energy, expected.energy)


def test_copies_are_evaluated_together(pos: Tensor) -> None:
    eager = engine()
    traced = TracedPotential(eager, Z, pos, 3)
    moved = torch.stack([pos, 1.05 * pos, pos.flip(1)])
    batch = torch.arange(3).repeat_interleave(5)
    expected = eager(Z.repeat(3), moved.view(-1, 3), batch, num_graphs=3)
    close(traced(moved), expected, 1e-12)
    assert torch.equal(traced(moved.view(-1, 3)).forces, traced(moved).forces)


def test_single_precision(pos: Tensor) -> None:
    eager = engine(torch.float32)
    close(TracedPotential(eager, Z, pos)(pos), eager(Z, pos), 1e-5)


def test_results_belong_to_the_caller(traced: TracedPotential, pos: Tensor) -> None:
    first = traced(pos)
    kept = first.forces.clone()
    first.energy.zero_(), first.energies.zero_(), first.forces.zero_()
    assert torch.equal(traced(pos).forces, kept)
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (traced(pos).forces * weight).sum().backward()  # no inference tensors


def test_weights_changed_later_do_not_matter(pos: Tensor) -> None:
    eager = engine()
    traced = TracedPotential(eager, Z, pos)
    before = traced(pos).energy
    for weight in eager.model.parameters():
        weight.zero_()
    assert torch.equal(traced(pos).energy, before)


def test_bad_positions_are_named_by_the_engine(
    traced: TracedPotential, pos: Tensor
) -> None:
    twice = pos.clone()
    twice[3] = twice[1]
    with pytest.raises(CoincidentAtomsError, match="1"):
        traced(twice)
    twice[3, 0] = float("nan")
    with pytest.raises(NonFiniteError):
        traced(twice)
    with pytest.raises(ShapeError, match=r"needs \[1, 5, 3\]"):
        traced(pos[:4])
    with pytest.raises(SpeciesError):
        TracedPotential(engine(), torch.tensor([8, 1, 1, 8, 6]), pos)


def test_a_model_that_jumps_is_refused(pos: Tensor) -> None:
    model = Cormorant(
        [1, 8], channels=2, num_levels=1, lmax=1, head="extensive", envelope=False
    )
    with pytest.raises(ConfigError, match="envelope=True"):
        TracedPotential(Engine(model, energy_unit="eV"), Z, pos)


def test_a_graph_that_differs_is_refused(
    pos: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = module.fixed_function

    def wrong(*args: object) -> object:
        function = true(*args)

        def off(pos: Tensor) -> tuple[Tensor, ...]:
            energy, forces, *rest = function(pos)
            return energy, forces * 1.001, *rest

        return off

    monkeypatch.setattr(module, "fixed_function", wrong)
    with pytest.raises(ExportError, match="traced forces differs"):
        TracedPotential(engine(), Z, pos)


def test_a_compiled_graph_is_compared_too(
    traced: TracedPotential, pos: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[object, bool]] = []

    def compiler(graph: object, *, dynamic: bool) -> object:
        made.append((graph, dynamic))
        return graph

    monkeypatch.setattr(torch, "compile", compiler)  # the real one takes a minute
    fast = TracedPotential(traced.engine, Z, pos, compiled=True)
    assert made == [(fast.graph, False)]
    assert torch.equal(fast(pos).forces, traced(pos).forces)

    def wrong(graph: Callable[[Tensor], tuple[Tensor, ...]], **_: object) -> object:
        return lambda pos: tuple(1.01 * part for part in graph(pos))

    monkeypatch.setattr(torch, "compile", wrong)
    with pytest.raises(ExportError, match="traced energy differs"):
        TracedPotential(traced.engine, Z, pos, compiled=True)

    def broken(*_: object, **__: object) -> object:
        msg = "no compiler"
        raise RuntimeError(msg)

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    with pytest.raises(ConfigError, match=r"no compiler.*compiled=False"):
        TracedPotential(traced.engine, Z, pos, compiled=True)


def test_folding_keeps_values_and_refuses_changes_in_place() -> None:
    weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        mixed = (weight @ weight).t().detach()
        return x @ mixed, mixed.sum()

    x = torch.arange(3.0).view(1, 3)
    folded = fold_constants(make_fx(function)(x))
    calls = [n for n in folded.graph.nodes if n.op == "call_function"]
    assert len(calls) <= 3  # x @ mixed alone, whatever it is made of
    for ours, theirs in zip(folded(x + 1), function(x + 1), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ExportError, match="in place"):
        fold_constants(make_fx(lambda x: x.clone().add_(1.0))(x))


def test_tracing_removes_work(traced: TracedPotential, pos: Tensor) -> None:
    plain = make_fx(fixed_function(engine(), Z, pos))(pos.unsqueeze(0))
    assert len(traced.graph.graph.nodes) < 0.8 * len(plain.graph.nodes)
