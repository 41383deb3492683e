"""Explanations: the mask of an edge multiplies the scalars of its message, exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks

from torch_cormorant import Cormorant, CormorantConv, radius_graph
from torch_cormorant.errors import (
    ArgumentError,
    ConfigError,
    ShapeError,
    SpeciesError,
)
from torch_cormorant.explain import ExplainableModel
from torch_cormorant.models import ModelInfo, Normalisation, Predictor
from torch_cormorant.networks import (
    SEGNN,
    TFN,
    Allegro,
    KernelNet,
    NBodyNetwork,
    NequIP,
    Network,
    PaiNN,
    SchNet,
    SE3Transformer,
    SO3Net,
)
from torch_cormorant.nn import HEADS
from torch_cormorant.testing import random_molecule


def molecule(n: int = 7) -> tuple[Tensor, Tensor]:
    return random_molecule(n, torch.Generator().manual_seed(1), torch.float64)


def wrapped(z: Tensor) -> ExplainableModel:
    torch.manual_seed(0)
    species = sorted(set(z.tolist()))
    network = Cormorant(species, cutoff=3.0, channels=4, num_levels=2, lmax=2)
    return ExplainableModel(network.double())


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_every_mask_entry_reaches_the_output(backend: str) -> None:
    z, pos = molecule()
    edge_index = radius_graph(pos, 3.0)
    torch.manual_seed(0)
    conv = CormorantConv(3, 3, lmax=2, backend=backend).double()
    x = torch.randn(len(z), 3, dtype=torch.float64)
    mask = torch.zeros(edge_index.shape[1], dtype=torch.float64, requires_grad=True)
    set_masks(conv, mask, edge_index)
    out = conv(x, edge_index, pos=pos)
    (gradient,) = torch.autograd.grad(out.square().sum(), mask)
    assert float(gradient.abs().min()) > 0


def test_fast_and_reference_path_agree_under_a_mask() -> None:
    z, pos = molecule()
    edge_index = radius_graph(pos, 3.0)
    torch.manual_seed(0)
    conv = CormorantConv(3, 3, lmax=2).double()
    x = torch.randn(len(z), 3, dtype=torch.float64)
    set_masks(conv, torch.randn(edge_index.shape[1], dtype=torch.float64), edge_index)
    fast = conv(x, edge_index, pos=pos)
    conv.set_backend("reference")
    torch.testing.assert_close(
        fast, conv(x, edge_index, pos=pos), rtol=1e-12, atol=1e-13
    )


def test_a_closed_mask_equals_leaving_the_edge_out() -> None:
    z, pos = molecule()
    edge_index = radius_graph(pos, 3.0)
    keep = torch.arange(edge_index.shape[1]) % 3 != 0
    torch.manual_seed(0)
    conv = CormorantConv(3, 3, lmax=2).double()
    x = torch.randn(len(z), 3, dtype=torch.float64)
    set_masks(conv, keep.double(), edge_index, apply_sigmoid=False)
    masked = conv(x, edge_index, pos=pos)
    clear_masks(conv)
    left_out = conv(x, edge_index[:, keep], pos=pos)
    torch.testing.assert_close(masked, left_out, rtol=1e-12, atol=1e-13)


def test_wrapper_predicts_what_the_network_predicts() -> None:
    z, pos = molecule()
    model = wrapped(z)
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    out = model(**model.inputs(z, pos, batch))
    expected = model.model(z, pos, batch)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-14)


def test_self_edges_are_never_masked() -> None:
    z, pos = molecule()
    model = wrapped(z)
    inputs = model.inputs(z, pos)
    edges = inputs["edge_index"]
    assert bool((edges[0] != edges[1]).all())
    closed = torch.zeros(edges.shape[1], dtype=torch.float64)
    set_masks(model, closed, edges, apply_sigmoid=False)
    masked = model(**inputs)
    clear_masks(model)
    none = torch.zeros(2, 0, dtype=torch.long)
    # the input layer passes messages too, and is not masked
    model.model.input = Identity(model.model.input, model.model, z, pos)
    alone = model(**{**inputs, "edge_index": none})
    torch.testing.assert_close(masked, alone, rtol=1e-12, atol=1e-13)


class Identity(nn.Module):
    """The input layer on the whole graph, whatever graph the levels see."""

    def __init__(
        self, layer: nn.Module, network: Cormorant, z: Tensor, pos: Tensor
    ) -> None:
        super().__init__()
        seen: list[Tensor] = []
        handle = layer.register_forward_hook(lambda _m, _a, out: seen.append(out))
        network(z, pos)
        handle.remove()
        self.features = seen[0]

    def forward(self, *_: Any) -> Tensor:
        return self.features


def test_explainer_finds_masks_for_edges_and_atoms() -> None:
    z, pos = molecule()
    model = wrapped(z)
    explainer = Explainer(
        model,
        algorithm=GNNExplainer(epochs=5),
        explanation_type="model",
        edge_mask_type="object",
        node_mask_type="attributes",
        model_config={"mode": "regression", "task_level": "graph"},
    )
    inputs = model.inputs(z, pos)
    explanation = explainer(**inputs)
    assert explanation.edge_mask.shape == inputs["edge_index"].shape[1:]
    assert explanation.node_mask.shape == inputs["x"].shape
    assert float(explanation.edge_mask.std()) > 0
    assert all(not conv.explain for conv in model.model.conv_layers())


def test_unfit_input_is_refused() -> None:
    z, pos = molecule()
    model = wrapped(z)
    inputs = model.inputs(z, pos)
    with pytest.raises(ShapeError, match="x must have shape"):
        model(**{**inputs, "x": inputs["x"][:, 1:]})
    with pytest.raises(SpeciesError):
        model.inputs(z + 40, pos)
    with pytest.raises(ConfigError, match="needs no wrapper"):
        ExplainableModel(nn.Linear(1, 1))


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_explained_in_the_unit_of_the_model(head: str) -> None:
    z, pos = molecule()
    spec: Any = {"kind": head, "degree": 2} if head == "so3" else head
    species = sorted(set(z.tolist()))
    model = Cormorant(species, head=spec, channels=2, num_levels=1).double()
    info = ModelInfo(("a",), ("eV",), Normalisation((7.0,), (3.0,)))
    wrapped = ExplainableModel(Predictor(model, info))
    torch.testing.assert_close(wrapped(**wrapped.inputs(z, pos)), 3.0 * model(z, pos))


SIZES: dict[type[Network], dict[str, Any]] = {
    NequIP: {"channels": 4, "radial": [8]},
    PaiNN: {"channels": 4},
    SEGNN: {"channels": 4},
    SE3Transformer: {"channels": 4},
    TFN: {"irreps": "4x0e + 4x1o"},
    SO3Net: {"channels": 4},
    SchNet: {"channels": 4},
    NBodyNetwork: {"channels": 4, "norm": None},
    KernelNet: {"irreps": "4x0 + 4x1", "embedding": 4, "radius": 3.0, "radial": (8,)},
}
ALL_EDGES = {SEGNN, SE3Transformer}
"""Those that read edges outside of messages: attributes of nodes, a denominator."""


def family(kind: type[Network], z: Tensor) -> ExplainableModel:
    torch.manual_seed(0)
    make: Any = kind
    species = sorted(set(z.tolist()))
    network = make(species, cutoff=3.0, num_levels=2, **SIZES[kind])
    return ExplainableModel(network.double())


@pytest.mark.parametrize("kind", SIZES)
def test_networks_of_the_family_predict_the_same_wrapped(kind: type[Network]) -> None:
    z, pos = molecule()
    model = family(kind, z)
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    inputs = model.inputs(z, pos, batch)
    expected = model.model(z, pos, batch)
    torch.testing.assert_close(model(**inputs), expected, rtol=1e-11, atol=1e-13)
    edges = inputs["edge_index"]
    open_ = torch.ones(edges.shape[1], dtype=torch.float64)
    set_masks(model, open_, edges, apply_sigmoid=False)
    torch.testing.assert_close(model(**inputs), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", [kind for kind in SIZES if kind not in ALL_EDGES])
def test_a_closed_mask_takes_an_edge_out(kind: type[Network]) -> None:
    z, pos = molecule()
    model = family(kind, z)
    inputs = model.inputs(z, pos)
    edges = inputs["edge_index"]
    keep = torch.arange(edges.shape[1]) % 3 != 0
    set_masks(model, keep.double(), edges, apply_sigmoid=False)
    masked = model(**inputs)
    clear_masks(model)
    left_out = model(**{**inputs, "edge_index": edges[:, keep]})
    torch.testing.assert_close(masked, left_out, rtol=1e-11, atol=1e-13)
    assert not torch.allclose(masked, model(**inputs), rtol=1e-6)


@pytest.mark.parametrize("kind", SIZES)
def test_explainer_finds_masks_in_the_family(kind: type[Network]) -> None:
    z, pos = molecule()
    model = family(kind, z)
    explainer = Explainer(
        model,
        algorithm=GNNExplainer(epochs=3),
        explanation_type="model",
        edge_mask_type="object",
        node_mask_type="attributes",
        model_config={"mode": "regression", "task_level": "graph"},
    )
    inputs = model.inputs(z, pos)
    explanation = explainer(**inputs)
    assert explanation.edge_mask.shape == inputs["edge_index"].shape[1:]
    assert explanation.node_mask.shape == inputs["x"].shape
    assert float(explanation.edge_mask.std()) > 0
    assert float(explanation.node_mask.std()) > 0


def test_networks_without_messages_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="Allegro: its features live on edges"):
        ExplainableModel(Allegro([1, 8], channels=2, scalars=4))
    with pytest.raises(ConfigError, match="NBodyNetwork: messages of the scheme"):
        ExplainableModel(NBodyNetwork([1, 8], channels=2, scheme="root"))
    with pytest.raises(ConfigError, match=r"NBodyNetwork: gate \(12\)"):
        ExplainableModel(NBodyNetwork([1, 8], channels=2, gates="relative"))
    z, pos = molecule()
    model = family(PaiNN, z)
    inputs = model.inputs(z, pos)
    with pytest.raises(ArgumentError, match="PaiNN reads atomic numbers"):
        model(**{**inputs, "z": None})
    with pytest.raises(ShapeError, match="x must have shape"):
        model(**{**inputs, "x": inputs["x"][:, 1:]})
