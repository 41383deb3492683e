"""Autocast changes nothing: every module computes in the type of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_cormorant
from torch_cormorant import (
    Cormorant,
    CormorantConv,
    CormorantMD17,
    CormorantQM9,
    EdgeGeometry,
    Gate,
    Invariants,
    SO3Linear,
    SO3Norm,
)
from torch_cormorant import nn as parts
from torch_cormorant.errors import DtypeError
from torch_cormorant.models import Potential, Predictor, hessian
from torch_cormorant.networks import CormorantNetwork
from torch_cormorant.nn import HeadInput, LevelSizes, make_head
from torch_cormorant.ops import PathTable, edge_dots, folded_square, neighbour_sum

HALF = (torch.float16, torch.bfloat16)
Case = tuple[nn.Module, tuple[Any, ...]]
Z = torch.tensor([8, 1, 1, 6])
POS = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24], [1.3, 0.1, 0.2]])
SIZES = LevelSizes((4, 4), (2, 2), 2)
SMALL: dict[str, Any] = {"channels": 4, "num_levels": 2, "lmax": 2, "hidden": 16}


def geometry() -> EdgeGeometry:
    index = (1 - torch.eye(4)).nonzero().t().contiguous()
    return EdgeGeometry.from_pos(POS, index)


def features(planes: int = 2) -> Tensor:
    return torch.randn(4, 9, planes, 4)


def atoms() -> HeadInput:
    levels = [features(), features()]
    batch = torch.tensor([0, 0, 0, 1])
    return HeadInput(torch.randn(4, SIZES.scalars), levels, batch, 2, Z, POS)


def inside() -> Tensor:
    return torch.view_as_complex(torch.randn(4, 9, 4, 2))


def edge_network() -> Case:
    conv = CormorantConv(4, 4, lmax=2, lmax_in=2)
    edges, x = geometry(), inside()
    rows = edges.pair_index[0].shape[0]
    state = torch.view_as_complex(torch.randn(rows, 3, 4, 2))
    return conv.edge_network, (x, x, edges, state)


def vertex() -> Case:
    mixing = parts.VertexMixing(4, 4, lmax=1, lmax_in=2, lmax_sh=1)
    mixing.reset_parameters()
    sums = [
        torch.view_as_complex(torch.randn(4, 2 * l + 1, n, 4, 2))
        for l, n in enumerate(mixing.sum_paths.counts)
    ]
    return mixing, (sums, inside())


def head(kind: Any) -> Callable[[], Case]:
    return lambda: (make_head(kind, SIZES, hidden=16), (atoms(),))


def network(make: Callable[..., nn.Module], **options: Any) -> Callable[[], Case]:
    return lambda: (make(species=[1, 6, 8], **options), (Z, POS))


def holding(kind: type[nn.Module]) -> Callable[..., nn.Module]:
    return lambda **options: kind(CormorantNetwork(**options))


IRREPS = "2x0e + 3x1o"
LENGTH = torch.linspace(0.5, 2.0, 6)
SHARE = LENGTH / 2.5
CASES: dict[str, Callable[[], Case]] = {
    "CormorantConv": lambda: (
        CormorantConv(4, 4, lmax=2, edge_dim=3),
        (torch.randn(4, 4), geometry(), None, torch.randn(12, 3)),
    ),
    "EdgeNetwork": edge_network,
    "VertexMixing": vertex,
    "DegreeWeights": lambda: (SO3Linear(4, 4, lmax=1).weights, ()),
    "SO3Linear": lambda: (SO3Linear(4, 8, lmax=2), (features(),)),
    "SO3Norm": lambda: (SO3Norm(4, lmax=2), (features(),)),
    "Gate": lambda: (Gate(4, lmax=2), (features(),)),
    "Invariants": lambda: (Invariants(4, lmax=2), (features(),)),
    "PowerTrig": lambda: (parts.PowerTrig(), (LENGTH,)),
    "Bessel": lambda: (parts.Bessel(8, 3.0), (LENGTH,)),
    "Gaussian": lambda: (parts.Gaussian(8, 3.0), (LENGTH,)),
    "SoftCutoff": lambda: (parts.SoftCutoff(4), (LENGTH,)),
    "SpeciesRadial": lambda: (
        parts.SpeciesRadial(8, 3.0, hidden=8, species=3),
        (LENGTH, torch.arange(6)),
    ),
    "SpeciesScale": lambda: (
        parts.SpeciesScale(4, 2, 3),
        (features(), torch.tensor([0, 1, 2, 0])),
    ),
    "BesselTwoBody": lambda: (parts.BesselTwoBody(3, 4), (SHARE, torch.arange(6))),
    "SplineTwoBody": lambda: (parts.SplineTwoBody(3, 4), (SHARE, torch.arange(6))),
    "BesselBasis": lambda: (parts.BesselBasis(8, 3.0, trainable=True), (LENGTH,)),
    "GaussianBasis": lambda: (parts.GaussianBasis(8, 3.0, trainable=True), (LENGTH,)),
    "InversePowers": lambda: (parts.InversePowers(4), (LENGTH,)),
    "Envelope": lambda: (parts.Envelope("cosine", 3.0), (LENGTH,)),
    "MLP": lambda: (parts.MLP([5, 8, 3], "ssp", bias=True), (torch.randn(4, 5),)),
    "RadialMLP": lambda: (
        parts.RadialMLP(
            parts.BesselBasis(8, 3.0), [8], 4, envelope=parts.Envelope("cosine", 3.0)
        ),
        (LENGTH,),
    ),
    "ShiftedSoftplus": lambda: (parts.ShiftedSoftplus(), (LENGTH,)),
    "Softplus": lambda: (parts.Softplus(5.0, shifted=True), (LENGTH,)),
    "CosineBasis": lambda: (parts.CosineBasis(8, 3.0), (LENGTH,)),
    "CutBesselBasis": lambda: (parts.CutBesselBasis(8, 3.0), (LENGTH,)),
    "E3NNBasis": lambda: (parts.E3NNBasis(8, 3.0), (LENGTH,)),
    "EdgeKernel": lambda: (
        parts.EdgeKernel("4x0 + 3x1", "2x0 + 2x1", 1),
        (torch.randn(5, 13), torch.randn(5, 9), torch.randn(5, 1)),
    ),
    "AttentiveMixing": lambda: (
        parts.AttentiveMixing("4x0 + 3x1", "2x0 + 2x1"),
        (torch.randn(5, 13),),
    ),
    "NormNetwork": lambda: (parts.NormNetwork("4x0 + 3x1"), (torch.randn(5, 13),)),
    "IrrepsInstanceNorm": lambda: (
        parts.IrrepsInstanceNorm("4x0e + 3x1o"),
        (torch.randn(5, 13),),
    ),
    "SteerableGate": lambda: (
        parts.SteerableGate("8x0e + 4x1o", "0e + 1o", "5x0e + 6x1o"),
        (torch.randn(3, 20), torch.randn(3, 4)),
    ),
    "SteerableLinear": lambda: (
        parts.SteerableLinear("8x0e + 4x1o", "0e + 1o", "5x0e + 6x1o"),
        (torch.randn(3, 20), torch.randn(3, 4)),
    ),
    "IrrepsLinear": lambda: (
        parts.IrrepsLinear(IRREPS, IRREPS, bias=True),
        (torch.randn(4, 11),),
    ),
    "SpeciesLinear": lambda: (
        parts.SpeciesLinear(IRREPS, IRREPS, 3),
        (torch.randn(4, 11), torch.randn(4, 3)),
    ),
    "GatedBlock": lambda: (parts.GatedBlock("2x0e + 3x1o"), (torch.randn(4, 14),)),
    "NormActivation": lambda: (parts.NormActivation(IRREPS), (torch.randn(4, 11),)),
    "SpeciesIndex": lambda: (parts.SpeciesIndex([1, 6, 8]), (Z,)),
    "AtomFeatures": lambda: (parts.AtomFeatures([1, 6, 8]), (Z, torch.float32)),
    "LinearInput": lambda: (parts.LinearInput(5, 8), (torch.randn(4, 5), geometry())),
    "MPNNInput": lambda: (parts.MPNNInput(5, 8), (torch.randn(4, 5), geometry())),
    "ZBL": lambda: (
        parts.ZBL([1, 6, 8]),
        (Z, geometry().edge_index, geometry().edge_vec),
    ),
    "Contraction": lambda: (parts.Contraction(SIZES, [0, 1, 2]), (atoms(),)),
    "PublishedHead": head("published"),
    "LinearHead": head("linear"),
    "ExtensiveHead": head("extensive"),
    "AtomwiseHead": head("atomwise"),
    "MeanHead": head("mean"),
    "PooledHead": head("pooled"),
    "AttentionHead": head("attention"),
    "DipoleHead": head("dipole"),
    "SpatialExtentHead": head("spatial_extent"),
    "PolarizabilityHead": head("polarizability"),
    "SO3Head": head({"kind": "so3", "degree": 2}),
    "HeadList": head(["mean", "dipole_norm"]),
    "Cormorant": network(Cormorant, norm="norm", gate=True, **SMALL),
    "CormorantQM9": network(CormorantQM9, **SMALL),
    "CormorantMD17": network(CormorantMD17, **SMALL),
    "CormorantPotential": network(Cormorant.potential, repulsion="zbl", **SMALL),
    "Potential": network(holding(Potential), head="extensive", **SMALL),
    "Predictor": network(holding(Predictor), **SMALL),
}
ABSTRACT = {"Ensemble", "Head", "Mask", "Norm", "Pair", "Part", "Radial", "SumHead"}
ABSTRACT |= {"Together"}  # holds models, as an ensemble does


def test_every_module_of_the_package_is_a_case() -> None:
    found = {
        value.__name__
        for space in (parts, torch_cormorant, torch_cormorant.models)
        for value in vars(space).values()
        if isinstance(value, type) and issubclass(value, nn.Module)
    }
    assert found - ABSTRACT == set(CASES)


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)


def computed(module: nn.Module, args: tuple[Any, ...]) -> list[Tensor]:
    """Values, and gradients of all weights and inputs."""
    leaves = [t for t in tensors(args) if t.is_floating_point() or t.is_complex()]
    for leaf in leaves:
        leaf.requires_grad_()
    module.zero_grad()
    out = [t for t in tensors(module(*args)) if t.numel()]
    sources = [*leaves, *(p for p in module.parameters() if p.requires_grad)]
    size = sum(t.abs().square().sum() for t in out)
    slopes: tuple[Tensor | None, ...] = ()
    if isinstance(size, Tensor) and size.requires_grad:
        slopes = torch.autograd.grad(size, sources, allow_unused=True)
    return [*(t.detach() for t in out), *(t for t in slopes if t is not None)]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    pairs = zip(left, right, strict=True)
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_without_autocast(
    name: str, dtype: torch.dtype
) -> None:
    module, args = CASES[name]()
    expected = computed(module, args)
    with torch.autocast("cpu", dtype=dtype):
        found = computed(module, args)  # the derivatives are taken inside, too
        assert torch.is_autocast_enabled("cpu")
        assert nn.Linear(2, 2)(torch.ones(2)).dtype == dtype
    assert same(found, expected)


def halved(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, (tuple, list)):
        made = [halved(part, dtype) for part in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    return value


EXACT = (
    *("Cormorant", "Edge", "Vertex", "Degree", "AtomFeatures", "ZBL", "Potential"),
    *("Predict", "SpeciesIndex"),
)
HALF_INPUTS = [name for name in CASES if not name.startswith(EXACT)]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["CormorantConv", *HALF_INPUTS])
def test_inputs_of_half_precision_are_computed_in_the_type_of_the_weights(
    name: str, dtype: torch.dtype
) -> None:
    module, args = CASES[name]()
    given = halved(args, dtype)
    raised = tuple(halved(halved(arg, dtype), torch.float32) for arg in args)
    expected = [t.detach() for t in tensors(module(*raised))]
    assert same([t.detach() for t in tensors(module(*given))], expected)
    assert all(t.dtype == torch.float32 for t in expected)


WEIGHTLESS = {
    *("Invariants", "Bessel", "Gaussian", "AtomFeatures", "ZBL"),
    *("Envelope", "ShiftedSoftplus", "GatedBlock", "SpeciesIndex", "InversePowers"),
    *("CosineBasis", "CutBesselBasis", "E3NNBasis", "Softplus"),
}
KEEPS = {"DegreeWeights"}  # hands out what it holds and computes nothing


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", sorted({*CASES} - WEIGHTLESS - KEEPS))
def test_weights_of_half_precision_are_refused(name: str, dtype: torch.dtype) -> None:
    module, args = CASES[name]()
    module.to(dtype)
    with pytest.raises(DtypeError, match=r"float\(\)"):
        module(*args)


@pytest.mark.parametrize("dtype", HALF)
def test_forces_and_their_training_are_those_without_autocast(
    dtype: torch.dtype,
) -> None:
    model = Cormorant.potential([1, 6, 8], repulsion="zbl", **SMALL)

    def slopes() -> list[Tensor]:
        model.zero_grad()
        out = model.evaluate(Z, POS, cell=9 * torch.eye(3), stress=True)
        terms = (out.energy, out.forces, out.stress)
        loss = torch.stack([t.square().mean() for t in terms if t is not None]).sum()
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        return [*(t.detach() for t in terms if t is not None), *grads]

    expected = slopes()
    with torch.autocast("cpu", dtype=dtype):
        found = slopes()
    assert same(found, expected)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("backend", ["auto", "portable"])
def test_operations_of_a_layer_are_those_without_autocast(
    backend: str, dtype: torch.dtype
) -> None:
    edges, x = geometry(), inside()
    g = torch.view_as_complex(torch.randn(12, 3, 4, 2))
    table, folded = PathTable(2, 2, 2), PathTable(2, 2, 2, folded=True)

    def run() -> list[Tensor]:
        sums = neighbour_sum(x, g, edges.sh(2), edges.plan, table, backend)
        target, source = edges.edge_index[1], edges.edge_index[0]
        dots = edge_dots(x, x, target, source, backend)
        mixed = torch.ones(4, 9, 2, 4)
        products = torch_cormorant.cg_product(mixed, mixed, 2)
        return [*sums, *folded_square(x, folded, backend), dots, *products]

    expected = run()
    with torch.autocast("cpu", dtype=dtype):
        assert same(run(), expected)


def test_services_of_a_network_are_those_without_autocast() -> None:
    torch.manual_seed(3)
    model = Cormorant.potential([1, 6, 8], **SMALL).eval()
    services: list[Callable[[], Tensor]] = [
        lambda: model.predict(Z, POS),
        lambda: model.atom_contributions(Z, POS).detach(),
        lambda: model.forward_edges(
            Z, geometry().edge_index, geometry().edge_vec
        ).detach(),
        lambda: hessian(model, Z, POS),
    ]
    for service in services:
        expected = service()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(service(), expected)


def test_layers_before_and_after_still_follow_autocast() -> None:
    before, after = nn.Linear(4, 4), nn.Linear(Invariants(4, 2).out_channels, 1)
    conv, read = CormorantConv(4, 4, lmax=2), Invariants(4, lmax=2)
    x = torch.randn(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = before(x)
        middle = conv(first, geometry())
        last = after(read(middle))
        last.sum().backward()
    assert first.dtype == last.dtype == torch.bfloat16
    assert middle.dtype == torch.float32
    grads = [p.grad for p in (*before.parameters(), *conv.parameters())]
    assert all(g is not None and bool(g.isfinite().all()) for g in grads)
