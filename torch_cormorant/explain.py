"""Explain predictions with ``torch_geometric.explain``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.models import Normalisation
from torch_cormorant.networks import CormorantNetwork
from torch_cormorant.networks.checks import check_structures, count_graphs
from torch_cormorant.networks.edges import own_edges


class ExplainableModel(nn.Module):
    r"""A network that :class:`torch_geometric.explain.Explainer` can call.

    ``Explainer`` calls ``model(x, edge_index, **kwargs)``, masks ``x`` and sets edge
    masks on the layers. A message is linear in :math:`g_{ij}`, so a mask on an edge
    multiplies :math:`g_{ij}`, exactly. Results are in the unit of the model, without
    its references. Any head will do; one of atoms with ``task_level: node``. Here
    ``x`` are the atom features (one-hot elements times powers of the charge) and
    ``edge_index`` the graph without self edges, which are added inside and never
    masked.

    Args:
        model: A :class:`~torch_cormorant.Cormorant` network, or a potential around one.

    Raises:
        ConfigError: If the model is another one. (A PyG model of your own with
            :class:`~torch_cormorant.CormorantConv` in it needs no wrapper.)

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
        if not isinstance(model, CormorantNetwork):
            msg = (
                "ExplainableModel wraps a Cormorant network, got "
                f"{type(model).__name__}; a PyG model with CormorantConv layers needs "
                "no wrapper"
            )
            raise ConfigError(msg)
        self.model = model

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
        features = self.model.features(z, self.model.dtype)
        given = {"pos": pos, "batch": batch, "z": z}
        return {"x": features, "edge_index": index, **given}

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        z: Tensor | None = None,
    ) -> Tensor:
        """Predict from atom features ``[N, F]`` and edges without self edges.

        Heads that read atomic numbers get ``z``, which no mask touches.
        """
        if x.ndim != 2 or x.shape != (pos.shape[0], self.model.features.out_features):
            expected = [pos.shape[0], self.model.features.out_features]
            msg = f"x must have shape {expected}, got {tuple(x.shape)}"
            raise ShapeError(msg)
        vec = (pos[edge_index[1]] - pos[edge_index[0]]).to(self.model.dtype)
        num_nodes = pos.shape[0]
        edges = own_edges(edge_index, vec, num_nodes, loop=True)
        geometry = self.model.geometry(*edges, num_nodes)
        count = count_graphs(batch, num_nodes, None)
        pos = pos.to(self.model.dtype)
        out, _ = self.model.forward_features(x, geometry, batch, count, z=z, pos=pos)
        if self.units is None:
            return out
        scale = self.units.scale(out).to(out.dtype)
        return out * (
            scale.view(-1, *[1] * (out.ndim - 2)) if len(scale) > 1 else scale
        )
