"""Graphs that are joined ahead of the step are those that the step makes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.transforms import RandomJitter

from torch_cormorant import Cormorant, CormorantQM9
from torch_cormorant.data import (
    FrameArrays,
    Frames,
    MiniEthanol,
    MiniQM9,
    split_indices,
)
from torch_cormorant.errors import CoincidentAtomsError
from torch_cormorant.graph import edge_vectors
from torch_cormorant.models.evaluation import Structures, find_edges
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.train import (
    FrameDataModule,
    MoleculeDataModule,
    PotentialRegression,
    PropertyRegression,
    Regression,
    potential_normalisation,
    quiet_lightning,
)
from torch_cormorant.train.graphs import GraphStore, edge_dtype, graph_of

SMALL: dict[str, Any] = {"channels": 2, "num_levels": 1, "lmax": 1}


def crystals() -> Frames:
    """Small cells whose atoms see many images, and some that do not repeat."""
    rng = np.random.default_rng(0)
    pos = rng.uniform(0, 3, (4, 3, 3)).reshape(-1, 3)
    repeats = [[1, 1, 1], [0, 0, 0], [1, 0, 1], [0, 0, 0]]
    arrays = FrameArrays(
        z=np.array([8, 1, 1] * 4),
        pos=pos,
        offset=np.arange(0, 13, 3),
        energy=rng.standard_normal(4),
        forces=rng.standard_normal((12, 3)),
        cell=np.broadcast_to(3.3 * np.eye(3), (4, 3, 3)).copy(),
        pbc=np.array(repeats, dtype=bool),
    )
    return Frames(arrays, name="crystals", energy_unit="eV")


def case(name: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    if name == "potential":
        return Cormorant.potential([1, 6, 8], **SMALL), MiniEthanol()[:12]
    if name == "crystals":
        return Cormorant.potential([1, 8], cutoff=4.0, **SMALL), crystals()
    if name == "all pairs":
        return CormorantQM9(**SMALL), MiniQM9("gap")[100:112]
    return Cormorant(cutoff=3.0, **SMALL), MiniQM9("gap")[100:112]


def batch_of(data: Any, rows: list[int]) -> Batch:
    return Batch.from_data_list([data[row] for row in rows])


CASES = ("potential", "crystals", "all pairs", "property")


@pytest.mark.parametrize("budget", [1 << 20, 0])
@pytest.mark.parametrize("name", CASES)
def test_graph_is_that_of_the_step(name: str, budget: int) -> None:
    model, data = case(name)
    store = GraphStore(model, budget=budget)
    # the last two are joined from molecules that came in other batches
    for rows in ([0, 1], [2, 3], [3, 0, 2], [1, 3]):
        batch = store.add_to(batch_of(data, rows), rows)
        graph = graph_of(batch)
        assert graph is not None
        pos = batch.pos.to(edge_dtype(model, batch))
        given = Structures(
            batch.z, pos, batch.batch, batch.get("cell"), batch.get("pbc")
        )
        index, shift, cells = find_edges(model, given, len(rows))
        vec = edge_vectors(pos, index, shift, cells, batch.batch)
        whole = EdgeGeometry(index, vec.to(model.dtype), len(pos))
        assert torch.equal(graph.edge_index, index)
        assert torch.equal(graph.vectors(), vec)
        assert torch.equal(graph.plan.packed, whole.plan.packed)
        assert torch.equal(graph.plan.header, whole.plan.header)
        for field in fields(whole.plan):
            one, other = (getattr(p, field.name) for p in (graph.plan, whole.plan))
            if isinstance(other, Tensor):
                assert torch.equal(one, other), field.name
    assert (store.used > 0) == (budget > 0)


def test_store_keeps_no_more_than_its_budget() -> None:
    model, data = case("potential")
    store = GraphStore(model, budget=2000)
    for row in range(4):
        store.add_to(batch_of(data, [row]), [row])
    one = GraphStore(model)
    one.add_to(batch_of(data, [0]), [0])
    assert 2000 <= store.used < 2000 + one.used


def regression(model: Any, data: Any) -> Regression:
    if isinstance(data, Frames):
        return PotentialRegression(model, potential_normalisation(data))
    return PropertyRegression(model, mean=0.0, std=1.0)


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_equal(name: str) -> None:
    model, data = case(name)
    module = regression(model, data)
    module.train()
    store = module.graph_store()
    assert store is not None
    found = []
    for rows in ([0, 1, 2, 3], [3, 1]):
        plain, joined = batch_of(data, rows), store.add_to(batch_of(data, rows), rows)
        assert graph_of(plain) is None
        assert graph_of(joined) is not None
        for batch in (plain, joined):
            module.zero_grad(set_to_none=True)
            loss, rows_of = module.terms(batch)
            loss.backward()
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            errors = [error for error, _ in rows_of.values()]
            found.append([loss.detach(), *grads, *errors])
    for plain_one, joined_one in (found[:2], found[2:]):
        assert len(plain_one) > 5
        assert all(map(torch.equal, plain_one, joined_one))


def test_changed_batches_are_searched_again() -> None:
    model, data = case("potential")
    store = GraphStore(model)
    kept, moved, nudged = (store.add_to(batch_of(data, [0, 1]), [0, 1]) for _ in "abc")
    moved.pos = moved.pos + 0.1
    nudged.pos[0] += 0.1
    assert graph_of(kept) is not None
    assert graph_of(moved) is None
    assert graph_of(nudged) is None


def test_errors_are_those_of_the_step() -> None:
    model, data = case("potential")
    module = regression(model, data)
    batch = batch_of(data, [0, 1])
    batch.pos[1] = batch.pos[0]
    assert graph_of(GraphStore(model).add_to(batch, [0, 1])) is None
    with pytest.raises(CoincidentAtomsError):
        module.terms(batch)


def test_own_ways_keep_their_graphs() -> None:
    class Own(PropertyRegression):
        def predicted(self, network: Any, batch: Any) -> Tensor:
            return 2 * super().predicted(network, batch)

    model, data = case("property")
    assert Own(model, mean=0.0, std=1.0).graph_store() is None
    hooked = case("property")[0]
    hooked.register_forward_hook(lambda *_: None)
    assert regression(hooked, data).graph_store() is None
    model, data = case("crystals")
    units = potential_normalisation(data)
    stressed = PotentialRegression(model, units, stress_weight=1.0)
    assert stressed.graph_store() is None


class Without:
    """Takes the graphs away from a module."""

    def graph_store(self) -> None:
        return None


class PlainPotential(Without, PotentialRegression):
    pass


class PlainProperty(Without, PropertyRegression):
    pass


def fitted(kind: type[Any], *, jitter: bool = False) -> tuple[Tensor, dict[str, Any]]:
    torch.manual_seed(0)
    loaders: Any
    if issubclass(kind, PotentialRegression):
        data = MiniEthanol()[:14]
        loaders = FrameDataModule(data, split_indices(14, 9, 3, 2), batch_size=4)
        model = Cormorant.potential([1, 6, 8], **SMALL)
        module = kind(model, potential_normalisation(loaders.train), ema_decay=0.9)
    else:
        molecules = MiniQM9("gap")[:14]
        split = split_indices(14, 9, 3, 2)
        loaders = MoleculeDataModule(molecules, split, batch_size=4)
        model = Cormorant(cutoff=3.0, **SMALL)
        module = kind(model, loaders.mean, loaders.std)
    if jitter:
        loaders.train.transform = RandomJitter(0.1)
    with quiet_lightning():
        trainer = Trainer(
            max_epochs=3,
            accelerator="cpu",
            gradient_clip_val=1.0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
        )
        trainer.fit(module, loaders)
    weights = torch.cat([p.detach().flatten() for p in module.parameters()])
    return weights, {k: float(v) for k, v in trainer.callback_metrics.items()}


@pytest.mark.parametrize(
    ("kind", "plain"),
    [(PotentialRegression, PlainPotential), (PropertyRegression, PlainProperty)],
)
def test_training_is_the_same_bit_by_bit(kind: type[Any], plain: type[Any]) -> None:
    weights, metrics = fitted(kind)
    others, expected = fitted(plain)
    assert torch.equal(weights, others)
    assert metrics == expected
    assert {"train_loss", "train_mae", "valid_mae"} <= metrics.keys()


def test_transforms_see_every_molecule_anew() -> None:
    weights, _ = fitted(PropertyRegression, jitter=True)
    others, _ = fitted(PlainProperty, jitter=True)
    assert torch.equal(weights, others)
