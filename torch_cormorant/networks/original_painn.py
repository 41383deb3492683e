"""PaiNN of SchNetPack: names and settings; no number changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.networks.original import Original, OriginalWeights, check_head
from torch_cormorant.nn.bases import BesselBasis, GaussianBasis

__all__ = ["OriginalPaiNN"]

BODY = "representation"
HEAD = "output_modules.0.outnet"
OFFSETS = "postprocessors.0"
BASES = {"GaussianRBF": GaussianBasis, "BesselRBF": BesselBasis}
CUTOFFS = {"CosineCutoff": "cosine", "MollifierCutoff": "mollifier"}


class OriginalPaiNN(Original):
    """``schnetpack.representation.PaiNN`` with an ``Atomwise`` head.

    A ``state_dict`` does not hold ``epsilon`` (1e-8 if it is not given) nor the
    activation of the head (SiLU). Kinds of basis and cutoff show in the names.
    """

    package = "SchNetPack"
    anchor = f"{BODY}.interactions.0.interatomic_context_net.0.weight"
    settings = (
        *("n_atom_basis", "n_interactions", "radial_basis", "n_rbf", "cutoff"),
        *("cutoff_fn", "shared_interactions", "shared_filters", "epsilon"),
        *("offsets", "n_layers", "n_hidden"),
    )

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Sizes from the shapes; the settings must not say otherwise."""
        bessel = f"{BODY}.radial_basis.freqs" in weights
        soft = f"{BODY}.cutoff_fn.eps" in weights
        levels = weights.count(BODY + ".interactions.{}.interatomic_context_net.0.bias")
        channels = weights.shape(f"{BODY}.embedding.weight")[1]
        rows, num_basis = weights.shape(f"{BODY}.filter_net.weight")
        found: dict[str, Any] = {
            "n_atom_basis": channels,
            "n_interactions": levels,
            "n_rbf": num_basis,
            "radial_basis": "BesselRBF" if bessel else "GaussianRBF",
            "cutoff_fn": "MollifierCutoff" if soft else "CosineCutoff",
        }
        for name, value in found.items():
            if config.get(name, value) != value:
                msg = (
                    f"{name} is {config[name]!r} in the settings and {value!r} in the "
                    "weights of SchNetPack"
                )
                raise WeightsError(msg)
        envelope: dict[str, Any] = {"kind": CUTOFFS[found["cutoff_fn"]]}
        if soft:
            envelope["eps"] = float(weights.take(f"{BODY}.cutoff_fn.eps"))
        one = levels > 1 and rows == 3 * channels
        if levels > 1 and config.get("shared_filters", one) != one:
            msg = f"shared_filters does not fit filter_net of {rows} rows"
            raise WeightsError(msg)
        offsets = config.get("offsets", f"{OFFSETS}.mean" in weights)
        if offsets and f"{OFFSETS}.mean" not in weights:
            raise ConfigError(f"offsets: the weights hold no {OFFSETS}.mean")
        return {
            "species": list(range(1, weights.shape(f"{BODY}.embedding.weight")[0])),
            "cutoff": float(weights.take(f"{BODY}.cutoff_fn.cutoff")),
            "channels": channels,
            "num_levels": levels,
            "basis": BASES[found["radial_basis"]].kind,
            "num_basis": num_basis,
            "envelope": envelope,
            "epsilon": float(config.get("epsilon", 1e-8)),
            "shared_levels": bool(config.get("shared_interactions", False)),
            "shared_filters": one,
            "head": {
                "kind": "atomwise",
                "layers": [
                    weights.shape(f"{HEAD}.{k}.weight")[0]
                    for k in range(weights.count(HEAD + ".{}.weight") - 1)
                ],
                "shift": "species" if offsets else None,
                "constant": bool(offsets),
            },
        }

    def fold(
        self, weights: OriginalWeights, network: Any, _: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Other names; of shared parts the first, which is all of them."""
        state = {ours: weights.take(theirs) for ours, theirs in _names(network)}
        for _ours, theirs in _names(network, every_level=True):
            weights.take(theirs)
        for name in ("weight", "bias"):
            rows = weights.take(f"{BODY}.filter_net.{name}").chunk(len(network.filters))
            state |= {f"filters.{k}.{name}": part for k, part in enumerate(rows)}
        if network.head.constant is None:  # offsets that are not asked for
            weights.left -= {f"{OFFSETS}.mean", f"{OFFSETS}.atomref"}
        for name in ("head.shift", "head.constant"):
            if name in state:
                state[name] = state[name].reshape(-1, 1)
        return state

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`."""
        shifted = getattr(network.head, "shift", None) is not None
        check_head(network, self.package, scale=False, constant=shifted, bias=True)
        if type(network.basis) not in BASES.values():
            raise self.refusal(f"the basis {network.basis.kind!r}")
        end = network.envelope
        if end.kind not in CUTOFFS.values():
            raise self.refusal(f"the envelope {end.kind!r}")
        state = network.state_dict()
        result = {t: state[ours] for ours, t in _names(network, every_level=True)}
        for name in ("weight", "bias"):
            rows = [state[f"filters.{k}.{name}"] for k in range(len(network.filters))]
            result[f"{BODY}.filter_net.{name}"] = torch.cat(rows)
        for name, value in result.items():
            if name.startswith(OFFSETS):
                result[name] = value.flatten()
        like = state["embedding.weight"]
        result[f"{BODY}.cutoff_fn.cutoff"] = like.new_tensor([end.cutoff])
        if end.kind == "mollifier":
            result[f"{BODY}.cutoff_fn.eps"] = like.new_tensor([end.eps])
        return result


def _names(network: Any, *, every_level: bool = False) -> Iterator[tuple[str, str]]:
    """Our name and theirs of every tensor; shared levels once, or as often as there."""
    yield "embedding.weight", f"{BODY}.embedding.weight"
    if isinstance(network.basis, BesselBasis):
        yield "basis.frequencies", f"{BODY}.radial_basis.freqs"
    else:
        yield "basis.offsets", f"{BODY}.radial_basis.offsets"
        yield "basis.widths", f"{BODY}.radial_basis.widths"
    own = len(network.convs)
    for k in range(network.num_levels if every_level else own):
        here, mixing = f"convs.{min(k, own - 1)}", f"{BODY}.mixing.{k}"
        nets = {
            here: f"{BODY}.interactions.{k}.interatomic_context_net",
            f"{here}.mixing": f"{mixing}.intraatomic_context_net",
        }
        for ours, theirs in nets.items():
            for j in (0, 1):
                yield from _linear(f"{ours}.context.{2 * j}", f"{theirs}.{j}")
        yield f"{here}.mixing.vectors.0.weight", f"{mixing}.mu_channel_mix.weight"
    for j in range(len(network.head.mlp.linears)):
        yield from _linear(f"head.mlp.{2 * j}", f"{HEAD}.{j}")
    if network.head.constant is not None:
        yield "head.constant", f"{OFFSETS}.mean"
        yield "head.shift", f"{OFFSETS}.atomref"


def _linear(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for name in ("weight", "bias"):
        yield f"{ours}.{name}", f"{theirs}.{name}"
