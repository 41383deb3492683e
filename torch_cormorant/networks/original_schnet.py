r"""SchNet of torch-geometric: names and settings, and one rounded constant.

Their activation subtracts :math:`\log 2` in the precision that the network was made in,
single as a rule. The difference to ours, 1.9e-9, stands before linear maps with a bias,
which take it: :math:`b' = b - \delta W 1`. Networks that were made in double precision
are known by the centres of their Gaussians, which single precision does not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.networks.original import Original, OriginalWeights, check_head
from torch_cormorant.nn.bases import GaussianBasis

__all__ = ["OriginalSchNet"]

ONLY: dict[str, tuple[Any, ...]] = {
    "dipole": (False,),
    "readout": ("add", "sum"),
    "scale": (None,),
}
"""Settings that are read with these values only."""
NO_NUMBERS = ("max_num_neighbors", "interaction_graph", "atomref")


class OriginalSchNet(Original):
    """``torch_geometric.nn.models.SchNet``.

    A ``state_dict`` does not hold ``mean`` and ``std`` (none if they are not given).
    Their graph leaves out neighbours beyond ``max_num_neighbors``, ours none.
    """

    package = "torch-geometric"
    anchor = "interactions.0.conv.lin1.weight"
    settings = (
        *("hidden_channels", "num_filters", "num_interactions", "num_gaussians"),
        *("cutoff", "mean", "std"),
        *ONLY,
        *NO_NUMBERS,
    )
    ignored = r"initial_atomref|interactions\.\d+\.conv\.nn\..*"

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Sizes from the shapes; the cutoff is the last Gaussian's centre."""
        for name, values in ONLY.items():
            if config.get(name, values[0]) not in values:
                msg = (
                    f"the setting {name}={config[name]!r} of torch-geometric is not "
                    f"read here, only {values[0]!r}"
                )
                raise ConfigError(msg)
        width, channels = weights.shape("interactions.0.conv.lin1.weight")
        offset = weights.known["distance_expansion.offset"]
        scaled = config.get("std") is not None and config.get("mean") is not None
        return {
            "species": list(range(1, weights.shape("embedding.weight")[0])),
            "cutoff": float(config.get("cutoff", offset[-1])),
            "channels": channels,
            "filters": width,
            "num_levels": weights.count("interactions.{}.conv.lin1.weight"),
            "num_basis": offset.numel(),
            "head": {
                "kind": "atomwise",
                "layers": [weights.shape("lin1.weight")[0]],
                "act": "ssp",
                "scale": "shared" if scaled else None,
                "constant": scaled,
                "shift": "species" if "atomref.weight" in weights else None,
            },
        }

    def fold(
        self, weights: OriginalWeights, network: Any, config: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Other names, one matrix transposed, and the width of the Gaussians."""
        state = {ours: weights.take(theirs) for ours, theirs in _names(network)}
        offset = state["basis.offsets"]
        for name in _transposed(network):
            state[name] = state[name].T
        for name in _behind_activations(network):
            shift = _difference(offset) * state[f"{name}.weight"].sum(1)
            state[f"{name}.bias"] = state[f"{name}.bias"] - shift
        state["basis.widths"] = (offset[1] - offset[0]).expand_as(offset)
        if network.head.scale is not None:
            like = state["embedding.weight"]
            state["head.scale"] = like.new_tensor([[config["std"]]])
            state["head.constant"] = like.new_tensor([[config["mean"]]])
        return state

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`; ``mean`` and ``std`` are no weights there."""
        scaled = getattr(network.head, "scale", None) is not None
        check_head(network, self.package, act="ssp", constant=scaled, bias=True)
        if type(network.basis) is not GaussianBasis or len(network.head.mlp) != 3:
            raise self.refusal("another basis, or a head with other layers")
        state = network.state_dict()
        for name in _transposed(network):
            state[name] = state[name].T
        for name in _behind_activations(network):
            shift = _difference(state["basis.offsets"]) * state[f"{name}.weight"].sum(1)
            state[f"{name}.bias"] = state[f"{name}.bias"] + shift
        result = {theirs: state[ours] for ours, theirs in _names(network)}
        twice = {
            name.replace(".mlp.", ".conv.nn."): value
            for name, value in result.items()
            if ".mlp." in name
        }
        if "atomref.weight" in result:
            twice["initial_atomref"] = result["atomref.weight"]
        return {**result, **twice}


def _transposed(network: Any) -> list[str]:
    return [f"convs.{k}.linear.weights.0e" for k in range(len(network.convs))]


def _behind_activations(network: Any) -> Iterator[str]:
    """Linear maps that read an activation."""
    for k in range(len(network.convs)):
        yield f"radials.{k}.2"
        yield f"after.{k}.0"
    yield "head.mlp.2"


def _difference(offset: Tensor) -> float:
    """Their log 2 minus ours."""
    if not torch.equal(offset.float().to(offset.dtype), offset):
        return 0.0
    return float(torch.log(torch.tensor(2.0, dtype=torch.float32))) - math.log(2)


def _names(network: Any) -> Iterator[tuple[str, str]]:
    """Our name and theirs of every tensor."""
    yield "embedding.weight", "embedding.weight"
    yield "basis.offsets", "distance_expansion.offset"
    for k in range(len(network.convs)):
        place = f"interactions.{k}"
        for j in (0, 2):
            yield from _linear(f"radials.{k}.{j}", f"{place}.mlp.{j}")
        yield f"before.{k}.0.weight", f"{place}.conv.lin1.weight"
        yield f"convs.{k}.linear.weights.0e", f"{place}.conv.lin2.weight"
        yield f"convs.{k}.linear.bias", f"{place}.conv.lin2.bias"
        yield from _linear(f"after.{k}.0", f"{place}.lin")
    yield from _linear("head.mlp.0", "lin1")
    yield from _linear("head.mlp.2", "lin2")
    if network.head.shift is not None:
        yield "head.shift", "atomref.weight"


def _linear(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for name in ("weight", "bias"):
        yield f"{ours}.{name}", f"{theirs}.{name}"
