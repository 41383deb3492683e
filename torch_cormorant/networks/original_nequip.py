r"""NequIP of the nequip package: names, settings, and factors of e3nn.

Their layers divide by roots of fan-ins, e3nn's 3j symbols differ from our tables by a
sign and a root, and their harmonics are larger: all of it is folded into the weights.
Neither the other axes of e3nn nor the other direction of edges change an energy.

==========================  ===================================================
theirs                      becomes
==========================  ===================================================
matrices of an MLP          times :math:`1/\sqrt{in}`, all but the first times
                            :math:`\sqrt 2`, transposed
last matrix of edge_mlp     columns of a path times :math:`s \sqrt{2 l_2 + 1}`,
                            :math:`s = (-1)^{k(k+1)/2}`, :math:`k = l_1 + l_2 - l`
linear_1, linear_2          times :math:`1/\sqrt{in}` of each irrep
sc                          times :math:`1/\sqrt{in \cdot A}`
bessel_weights              times :math:`\pi`
==========================  ===================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_cormorant.errors import WeightsError
from torch_cormorant.networks.original import OriginalWeights, check_head
from torch_cormorant.networks.original_mir import (
    OriginalMir,
    P,
    fold_mlp,
    mlp_widths,
    unfold_mlp,
)

if TYPE_CHECKING:
    from torch_cormorant.conv import NequIPConv

__all__ = ["OriginalNequIP"]

READOUT = f"{P}per_atom_energy_readout.mlp_module"
DEFAULTS: dict[str, Any] = {
    "num_layers": 4,
    "l_max": 1,
    "parity": True,
    "num_features": 32,
    "polynomial_cutoff_p": 6,
    "avg_num_neighbors": None,
}
ONLY: dict[str, Any] = {
    "convnet_sc": True,
    "learnable_shift": False,
    "convnet_resnet": False,
    "convnet_nonlinearity_type": "gate",
    "convnet_nonlinearity_scalars": {"e": "silu", "o": "tanh"},
    "convnet_nonlinearity_gates": {"e": "silu", "o": "tanh"},
    "categorical_graph_field_embed": None,
    "readout_mlp_nonlinearity": "silu",
}
"""Settings that are read with this value only."""
IN_WEIGHTS = (
    *("type_embed_num_features", "radial_mlp_depth", "radial_mlp_width"),
    *("num_bessels", "bessel_trainable", "per_type_energy_scales"),
    *("per_type_energy_shifts", "per_type_energy_scales_trainable"),
    *("per_type_energy_shifts_trainable", "readout_mlp_hidden_layers_depth"),
    *("readout_mlp_hidden_layers_width", "per_edge_type_cutoff", "pair_potential"),
)
NO_NUMBERS = ("_target_", "seed", "model_dtype", "do_derivatives")


class OriginalNequIP(OriginalMir):
    """``nequip.model.NequIPGNNModel``.

    A ``state_dict`` holds neither ``type_names``, ``r_max`` (where cutoffs differ
    between types), ``l_max``, ``parity``, ``num_features``, ``avg_num_neighbors``,
    ``polynomial_cutoff_p``, nor which of scales and shifts are trained.
    """

    package = "nequip"
    anchor = f"{P}layer0_convnet.conv.linear_1.weight"
    settings = ("r_max", "type_names", *DEFAULTS, *ONLY, *IN_WEIGHTS, *NO_NUMBERS)
    ignored = (
        r"model\._empty|.*\.output_mask|.*\.equivariant_nonlin\..*|"
        r".*\.tp_scatter\.tp\..*|.*\.linear_[12]\.bias"
    )

    only = ONLY
    bessel = f"{P}bessel_encode.bessel_weights"

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """From the settings and, where they show there, the weights."""
        self.check_only(config)
        known = {**DEFAULTS, **config}
        types, width = weights.shape(f"{P}type_embed.embed_module.weight")
        radial, _ = mlp_widths(weights, f"{P}layer0_convnet.conv.edge_mlp")
        layers, _ = mlp_widths(weights, READOUT)
        made = self.shared(weights, known, types)
        return {
            **made,
            "channels": known["num_features"],
            "embedding": width,
            "num_basis": weights.shape(self.bessel)[1],
            "trainable_basis": self.bessel_trained(known),
            "power": float(known["polynomial_cutoff_p"]),
            "radial": radial,
            "constants": "e3nn",
            "head": {**made["head"], "layers": layers},
        }

    def fold(
        self, weights: OriginalWeights, network: Any, _: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Our weights, with the factors of the table above."""
        state = {
            "embedding.weight": weights.take(f"{P}type_embed.embed_module.weight"),
            "basis.frequencies": weights.take(self.bessel)[0] * math.pi,
            **self.fold_shared(weights),
        }
        for s, conv in enumerate(network.convs):
            q, radial = f"{P}layer{s}_convnet.conv", network.radials[s]
            factors = conv.path_factors(signs=True)
            made = fold_mlp(weights, radial, f"{q}.edge_mlp", factors)
            state |= {f"radials.{s}.{name}": value for name, value in made.items()}
            for part, old in _maps(conv):
                flat = weights.take(f"{q}.{old}.weight")
                state |= _blocks(flat, conv.get_submodule(part), f"convs.{s}.{part}", q)
        made = fold_mlp(weights, network.head.mlp, READOUT)
        return state | {f"head.mlp.{name}": value for name, value in made.items()}

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`."""
        check_head(network, self.package, constant=False, bias=False)
        if network.constants != "e3nn":
            raise self.refusal("exact constants (it needs constants='e3nn')")
        state = network.state_dict()
        result = {
            f"{P}type_embed.embed_module.weight": state["embedding.weight"],
            self.bessel: state["basis.frequencies"][None] / math.pi,
            **self.unfold_shared(network),
        }
        for s, conv in enumerate(network.convs):
            q, factors = f"{P}layer{s}_convnet.conv", conv.path_factors(signs=True)
            result |= unfold_mlp(network.radials[s], f"{q}.edge_mlp", factors)
            for part, old in _maps(conv):
                weights = conv.get_submodule(part).weights
                parts = [w.flatten() * _fan_in(w) ** 0.5 for w in weights.values()]
                result[f"{q}.{old}.weight"] = torch.cat(parts)
        return result | unfold_mlp(network.head.mlp, READOUT)


def _maps(conv: NequIPConv) -> Iterator[tuple[str, str]]:
    """Our name and theirs of the linear maps of a layer."""
    yield "linear_1", "linear_1"
    yield "linear_2", "linear_2"
    if conv.connection is not None:
        yield "connection", "sc"


def _fan_in(weight: Tensor) -> int:
    return math.prod(weight.shape[:-1])


def _blocks(flat: Tensor, module: Any, name: str, place: str) -> dict[str, Tensor]:
    """One matrix for each irrep out of a flat row of weights."""
    sizes = [weight.numel() for weight in module.weights.values()]
    if flat.numel() != sum(sizes):
        msg = (
            f"{place}: {name.rsplit('.', 1)[1]} has {flat.numel()} weights, the "
            f"network needs {sum(sizes)}; l_max, parity or num_features are others"
        )
        raise WeightsError(msg)
    parts = zip(module.weights.items(), flat.split(sizes), strict=True)
    return {
        f"{name}.weights.{ir}": part.view(own.shape) * _fan_in(own) ** -0.5
        for (ir, own), part in parts
    }
