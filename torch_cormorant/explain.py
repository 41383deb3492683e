"""Explain predictions with ``torch_geometric.explain``."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ArgumentError, ConfigError, ShapeError
from torch_cormorant.models import Normalisation
from torch_cormorant.networks import Allegro, CormorantNetwork, NBodyNetwork
from torch_cormorant.networks.checks import check_structures, count_graphs
from torch_cormorant.networks.edges import own_edges
from torch_cormorant.networks.starts import StartsFromRows


class ExplainableModel(nn.Module):
    r"""A network that :class:`torch_geometric.explain.Explainer` can call.

    ``Explainer`` calls ``model(x, edge_index, **kwargs)``, masks ``x`` and sets edge
    masks on the layers. A mask on an edge multiplies its message; with Cormorant, whose
    message is linear in :math:`g_{ij}`, it multiplies :math:`g_{ij}`. Results are in
    the unit of the model, without its references. Any head will do; one of atoms with
    ``task_level: node``. Here ``x`` are the features that the first level starts from:
    one-hot elements times powers of the charge with Cormorant, else the embedding or
    the one-hot elements. ``edge_index`` is the graph without self edges, which are
    added inside and never masked. Neither are what networks read of edges outside of
    messages: attributes of nodes (SEGNN), the denominators of an attention
    (SE(3)-Transformer), a repulsion of pairs (NequIP with ``zbl``).

    Args:
        model: A network of this package whose layers pass messages, or a potential
            around one.

    Raises:
        ConfigError: If the network cannot be explained: Allegro has its features on
            edges; N-body networks can with balls and gates (10) and (11) only. (A PyG
            model of your own with :class:`~torch_cormorant.CormorantConv` in it needs
            no wrapper.)

    Example:
        >>> import torch
        >>> from torch_geometric.explain import Explainer, GNNExplainer
        >>> from torch_cormorant import Cormorant
        >>> from torch_cormorant.explain import ExplainableModel
        >>> z = torch.tensor([8, 1, 1])
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> network = Cormorant(species=[1, 8], channels=4, num_levels=2, lmax=1)
        >>> model = ExplainableModel(network)
        >>> explainer = Explainer(
        ...     model,
        ...     algorithm=GNNExplainer(epochs=3),
        ...     explanation_type="model",
        ...     edge_mask_type="object",
        ...     node_mask_type="object",
        ...     model_config={"mode": "regression", "task_level": "graph"},
        ... )
        >>> explanation = explainer(**model.inputs(z, pos))
        >>> tuple(explanation.edge_mask.shape), tuple(explanation.node_mask.shape)
        ((6,), (3, 1))
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        units = getattr(getattr(model, "info", None), "normalisation", None)
        self.units: Normalisation | None = units
        model = getattr(model, "network", model)
        self.model = _explainable(model)

    def inputs(
        self, z: Tensor, pos: Tensor, batch: Tensor | None = None
    ) -> dict[str, Any]:
        """What to pass to the explainer for a molecule.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom.
            batch: Molecule of each atom.

        Returns:
            ``x``, ``edge_index``, ``pos``, ``batch`` and ``z``.
        """
        z, batch = check_structures(z, pos, batch)
        self.model.features.check(z)
        index = self.model.make_edges(pos, batch)
        index = index[:, index[0] != index[1]]
        if batch is None:
            batch = torch.zeros_like(z, dtype=torch.long)
        given = {"pos": pos, "batch": batch, "z": z}
        return {"x": self._start(z), "edge_index": index, **given}

    def _start(self, z: Tensor) -> Tensor:
        """What the first level starts from ``[N, F]``."""
        network = self.model
        if isinstance(network, CormorantNetwork):
            made: Tensor = network.features(z, network.dtype)
            return made
        return network.start(z).detach()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        z: Tensor | None = None,
    ) -> Tensor:
        """Predict from atom features ``[N, F]`` and edges without self edges.

        Whatever else reads atomic numbers, such as heads, gets ``z``, which no mask
        touches; only Cormorant networks do without it.
        """
        network, num_nodes = self.model, pos.shape[0]
        self._check(x, z, num_nodes)
        vec = (pos[edge_index[1]] - pos[edge_index[0]]).to(network.dtype)
        edges = own_edges(edge_index, vec, num_nodes, loop=network.self_edges)
        geometry = network.geometry(*edges, num_nodes)
        count = count_graphs(batch, num_nodes, None)
        pos = pos.to(network.dtype)
        if isinstance(network, CormorantNetwork):
            out, _ = network.forward_features(x, geometry, batch, count, z=z, pos=pos)
        else:
            levels = network.levels_from(x, cast("Tensor", z), geometry)
            out = network.read_out(levels, geometry, batch, count, z=z, pos=pos)
        if self.units is None:
            return out
        scale = self.units.scale(out).to(out.dtype)
        return out * (
            scale.view(-1, *[1] * (out.ndim - 2)) if len(scale) > 1 else scale
        )

    def _check(self, x: Tensor, z: Tensor | None, num_nodes: int) -> None:
        network = self.model
        if isinstance(network, CormorantNetwork):
            width = network.features.out_features
        elif z is None:
            msg = f"{type(network).__name__} reads atomic numbers: give z"
            raise ArgumentError(msg)
        else:
            width = network.start(z[:1]).shape[1]
        if tuple(x.shape) != (num_nodes, width):
            msg = f"x must have shape {[num_nodes, width]}, got {tuple(x.shape)}"
            raise ShapeError(msg)


def _explainable(model: nn.Module) -> CormorantNetwork | StartsFromRows:
    """The network itself, or an error that says why it cannot be explained."""
    if isinstance(model, Allegro):
        reason = "its features live on edges, so no message can be masked"
    elif isinstance(model, NBodyNetwork) and model.scheme != "balls":
        reason = f"messages of the scheme {model.scheme!r} do not run along its edges"
    elif isinstance(model, NBodyNetwork) and any(
        getattr(conv, "gate", None) == "relative" for conv in model.convs
    ):
        reason = "gate (12) sums over pairs of atoms, which no mask of an edge reaches"
    elif isinstance(model, (CormorantNetwork, StartsFromRows)):
        return model
    else:
        reason = "a PyG model with MessagePassing layers needs no wrapper"
    msg = (
        "ExplainableModel wraps a network whose layers pass messages along the edges "
        f"of the graph, got {type(model).__name__}: {reason}"
    )
    raise ConfigError(msg)
