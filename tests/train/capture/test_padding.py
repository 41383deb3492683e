"""Batches of fixed sizes: nothing of them shows in losses and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from torch_cormorant import Cormorant, CormorantQM9
from torch_cormorant.data import MiniEthanol, MiniQM9
from torch_cormorant.errors import (
    CoincidentAtomsError,
    ConfigError,
    ShapeError,
    SpeciesError,
)
from torch_cormorant.ops import use_backend
from torch_cormorant.ops.padded import fixed_header, fixed_plan
from torch_cormorant.train import (
    PaddedSizes,
    PotentialRegression,
    PropertyRegression,
    pad_batch,
)
from torch_cormorant.train.capture.step import padded_terms

ALL = float("inf")
SMALL: dict[str, Any] = {"channels": 4, "num_levels": 2, "lmax": 2, "hidden": 8}


def random_batch(data: Any, size: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(data), generator=generator)[:size].tolist()
    return next(iter(DataLoader([data[row] for row in rows], batch_size=size)))


def gradients(loss: Tensor, module: Any) -> list[Tensor]:
    module.zero_grad()
    loss.backward()
    return [
        torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for p in module.model.parameters()
    ]


def compare(module: Any, batch: Any, sizes: PaddedSizes) -> None:
    """Loss, sums and every gradient agree to round-off in double precision."""
    padded = pad_batch(module.model, batch, sizes, module.label_names)
    assert padded is not None
    right, rows = module.terms(batch)
    expected = gradients(right, module)
    loss, found_rows = padded_terms(module, padded)
    found = gradients(loss, module)
    torch.testing.assert_close(loss, right, rtol=1e-13, atol=0)
    for name, (errors, weights) in rows.items():
        wrong, counted = found_rows[name]
        torch.testing.assert_close(counted.sum(), weights.sum())
        total, expected_total = (wrong * counted).sum(), (errors * weights).sum()
        torch.testing.assert_close(total, expected_total, rtol=1e-12, atol=1e-12)
    assert any(bool(grad.abs().max() > 0) for grad in expected)
    scale = max(float(grad.abs().max()) for grad in expected)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-13 * scale)


def property_module(**options: Any) -> PropertyRegression:
    torch.manual_seed(3)
    model = Cormorant((1, 6, 7, 8, 9), **{**SMALL, **options}).double()
    return PropertyRegression(model, -1.0, 2.0, atom_values={1: 0.5, 6: -1.0})


HEADS = ("published", "linear", "mean", "attention", "dipole_norm", "spatial_extent")


@pytest.mark.parametrize("backend", ["auto", "portable"])
@pytest.mark.parametrize("head", HEADS)
def test_padding_changes_no_gradient(head: str, backend: str) -> None:
    module, data = property_module(head=head), MiniQM9("gap")
    sizes = PaddedSizes.of(module.model, data, 6, ALL)
    with use_backend(backend):
        compare(module, random_batch(data, 6, seed=1), sizes)


@pytest.mark.parametrize(
    "options",
    [
        {"cutoff": None, "harmonics": "solid"},
        {"cutoff": None, "gaussian_mask": True, "input": "linear"},
        {"cutoff": 2.5, "norm": "norm", "gate": True, "complex": False},
        {"cutoff": 3.0, "cutoff_type": ("hard",), "mpnn_cutoff": 1.73},
        {"lmax": 3, "paths": "even", "init": "published"},
    ],
)
def test_padding_changes_no_gradient_of_any_network(options: dict[str, Any]) -> None:
    module, data = property_module(**options), MiniQM9("gap")
    sizes = PaddedSizes.of(module.model, data, 6, ALL)
    compare(module, random_batch(data, 6, seed=2), sizes)


def test_the_published_network_is_exact_in_double_precision() -> None:
    torch.manual_seed(0)
    module = PropertyRegression(CormorantQM9().double(), 0.0, 1.0)
    data = MiniQM9("gap")
    sizes = PaddedSizes.of(module.model, data, 4, ALL)
    compare(module, random_batch(data, 4, seed=3), sizes)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_smaller_last_batch_is_filled_up_too(count: int) -> None:
    module, data = property_module(), MiniQM9("gap")
    sizes = PaddedSizes.of(module.model, data, 5, ALL)
    compare(module, random_batch(data, count, seed=4), sizes)


def test_molecules_of_weight_zero_stay_without_effect() -> None:
    module, data = property_module(), MiniQM9("gap")
    sizes = PaddedSizes.of(module.model, data, 3, ALL)
    batch = random_batch(data, 3, seed=5)
    batch.weight = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    compare(module, batch, sizes)


def potential_module(**options: Any) -> PotentialRegression:
    torch.manual_seed(3)
    model = Cormorant.potential((1, 6, 8), **{**SMALL, **options}).double()
    from torch_cormorant.models import Normalisation

    units = Normalisation((0.0,), (1.5,), {1: (-13.0,), 6: (-1000.0,), 8: (-2000.0,)})
    return PotentialRegression(model, units)


@pytest.mark.parametrize("backend", ["auto", "portable"])
@pytest.mark.parametrize("options", [{}, {"repulsion": "zbl"}, {"cutoff": 2.2}])
def test_padding_changes_no_gradient_of_force_training(
    options: dict[str, Any], backend: str
) -> None:
    module, data = potential_module(**options), MiniEthanol()[:30]
    sizes = PaddedSizes.of(module.model, data, 5)
    with use_backend(backend):
        for count in (5, 3):
            compare(module, random_batch(data, count, seed=6), sizes)


def crystal(seed: int, atoms: int) -> Any:
    """A small periodic cell whose atoms neighbour their own images."""
    from torch_geometric.data import Data

    generator = torch.Generator().manual_seed(seed)
    grid = torch.cartesian_prod(*[torch.arange(2.0)] * 3).double() * 2.0
    moved = 0.2 * torch.randn(8, 3, generator=generator, dtype=torch.float64)
    return Data(
        z=torch.tensor([1, 6, 8, 6, 1, 8, 1, 6])[:atoms],
        pos=(grid + moved)[:atoms],
        cell=(4.0 * torch.eye(3, dtype=torch.float64) + 0.1 * seed)[None],
        pbc=torch.ones(1, 3, dtype=torch.bool),
        energy=torch.tensor([-3.0], dtype=torch.float64),
        forces=torch.randn(atoms, 3, generator=generator, dtype=torch.float64),
    )


def test_padding_changes_no_gradient_in_periodic_cells() -> None:
    module = potential_module(cutoff=4.5)
    data = [crystal(seed, 8 - seed) for seed in range(4)]
    sizes = PaddedSizes.of(module.model, data, 4, ALL)
    compare(module, random_batch(data, 4, seed=7), sizes)


@pytest.mark.parametrize("cutoff", [None, 3.0])
def test_fifty_batches_have_one_header_and_one_set_of_shapes(
    cutoff: float | None,
) -> None:
    module, data = property_module(cutoff=cutoff), MiniQM9("gap")
    sizes = PaddedSizes.of(module.model, data, 8, ALL)
    header = fixed_header(sizes.atoms, sizes.edges, sizes.pairs, sizes.width)
    seen = set()
    for seed in range(50):
        batch = random_batch(data, 8, seed)
        padded = pad_batch(module.model, batch, sizes, ["y"])
        assert padded is not None, seed
        assert torch.equal(padded.header, header)
        kinds = tuple(
            (name, tuple(t.shape), t.dtype) for name, t in padded.tensors().items()
        )
        seen.add(kinds)
    assert len(seen) == 1


def test_pairs_of_a_filled_batch_are_each_other_s_reverse() -> None:
    module, data = property_module(cutoff=3.0), MiniQM9("gap")
    sizes = PaddedSizes.of(module.model, data, 8, ALL)
    padded = pad_batch(module.model, random_batch(data, 8, 0), sizes, ["y"])
    assert padded is not None
    vec = padded.vectors()
    geometry = padded.geometry(vec, "unit")
    pairs = geometry.plan.pairs
    assert pairs is not None
    assert pairs.edge.numel() == sizes.pairs
    other = vec[pairs.edge][pairs.of_edge]
    assert bool(((other == vec) | (other == -vec)).all())
    assert pairs.of_edge.bincount().max() == 2
    assert pairs.of_edge[pairs.edge].tolist() == list(range(sizes.pairs))
    # No two connected atoms lie at one place, but for an atom and itself.
    length, index = geometry.edge_length, padded.edge_index
    assert bool(((length > 0.5) | (index[0] == index[1])).all())
    degree = index[1].bincount(minlength=sizes.atoms)
    assert 1 <= int(degree.min()) <= int(degree.max()) <= sizes.width


def test_batches_that_are_too_large_are_told_apart_not_cut() -> None:
    module, data = property_module(), MiniQM9("gap")
    batch = random_batch(data, 6, seed=1)
    sizes = PaddedSizes.of(module.model, data, 6, ALL)
    atoms = batch.num_nodes - 1
    tight = PaddedSizes(6, atoms, 7 * atoms, sizes.width)
    assert pad_batch(module.model, batch, tight, ["y"]) is None
    fewer = PaddedSizes(5, sizes.atoms, sizes.edges, sizes.width)
    assert pad_batch(module.model, batch, fewer, ["y"]) is None
    narrow = PaddedSizes(6, 400, 800, 3)
    assert pad_batch(module.model, batch, narrow, ["y"]) is None


def test_sizes_of_equal_molecules_hold_a_full_batch_exactly() -> None:
    model, data = CormorantQM9(), MiniEthanol()[:10]
    sizes = PaddedSizes.of(model, data, 4)
    assert (sizes.atoms, sizes.edges, sizes.width) == (36, 4 * 81, 9)


def test_three_deviations_hold_nearly_every_batch() -> None:
    module, data = property_module(cutoff=None), MiniQM9("gap")
    sizes = PaddedSizes.of(module.model, data, 8)
    whole = PaddedSizes.of(module.model, data, 8, ALL)
    assert sizes.edges < whole.edges
    fitting = [
        pad_batch(module.model, random_batch(data, 8, seed), sizes, ["y"]) is not None
        for seed in range(100)
    ]
    assert sum(fitting) >= 97


@pytest.mark.parametrize(
    ("numbers", "changed"),
    [((0, 4, 8, 3), 0), ((1, 4, 7, 3), 1), ((1, 4, 14, 3), 2), ((1, 4, 8, 1), 3)],
)
def test_sizes_that_contradict_each_other_are_refused(
    numbers: tuple[int, int, int, int], changed: int
) -> None:
    del changed
    with pytest.raises(ConfigError, match="sizes"):
        PaddedSizes(*numbers)


def test_no_molecules_and_no_labels_are_refused() -> None:
    module, data = property_module(), MiniQM9("gap")
    with pytest.raises(ConfigError, match="some molecules"):
        PaddedSizes.of(module.model, [], 4)
    with pytest.raises(ConfigError, match="batch_size"):
        PaddedSizes.of(module.model, data[:5], 0)
    sizes = PaddedSizes.of(module.model, data, 4, ALL)
    with pytest.raises(ConfigError, match="energy: the batch has no such label"):
        pad_batch(module.model, random_batch(data, 4, 0), sizes, ["energy"])


def test_faulty_molecules_are_named_as_by_the_network() -> None:
    module, data = property_module(), MiniQM9("gap")
    sizes = PaddedSizes.of(module.model, data, 4, ALL)
    batch = random_batch(data, 4, 0)
    batch.pos[1] = batch.pos[0]
    with pytest.raises(CoincidentAtomsError):
        pad_batch(module.model, batch, sizes, ["y"])
    batch = random_batch(data, 4, 0)
    batch.z[0] = 92
    with pytest.raises(SpeciesError, match="92"):
        pad_batch(module.model, batch, sizes, ["y"])


def test_batches_of_other_types_do_not_go_into_the_same_memory() -> None:
    module, data = property_module(), MiniQM9("gap")
    sizes = PaddedSizes.of(module.model, data, 4, ALL)
    first = pad_batch(module.model, random_batch(data, 4, 0), sizes, ["y"])
    other = pad_batch(module.model, random_batch(data, 4, 1), sizes, [])
    assert first is not None
    assert other is not None
    static = first.empty(torch.device("cpu"))
    static.fill(first)
    assert torch.equal(static.packed, first.packed)
    with pytest.raises(ShapeError, match="y: missing"):
        static.fill(other)


def test_a_node_with_too_many_edges_is_refused_by_the_plan() -> None:
    from torch_cormorant.errors import EdgeBudgetError

    index = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1]])
    with pytest.raises(EdgeBudgetError, match="2 to 2 edges"):
        fixed_plan(index, torch.tensor([0, 1, 3]), torch.tensor([0, 1, 1, 2]), 2, 1)
