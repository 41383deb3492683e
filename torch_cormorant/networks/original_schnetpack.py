"""What the networks of SchNetPack share: basis, cutoff, head, offsets; only names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.networks.original import Original, OriginalWeights, check_head
from torch_cormorant.nn.bases import BesselBasis, GaussianBasis
from torch_cormorant.nn.radial import Radial

__all__ = ["BODY", "OriginalSchNetPack", "linear_names"]

BODY = "representation"
HEAD = "output_modules.0.outnet"
OFFSETS = "postprocessors.0"
BASES: dict[str, type[Radial]] = {
    "GaussianRBF": GaussianBasis,
    "BesselRBF": BesselBasis,
}
CUTOFFS = {"CosineCutoff": "cosine", "MollifierCutoff": "mollifier"}


class OriginalSchNetPack(Original):
    """A representation of SchNetPack with an ``Atomwise`` head.

    A ``state_dict`` does not hold the activation of the head (SiLU). Kinds of basis and
    cutoff show in the names.
    """

    package = "SchNetPack"
    settings: tuple[str, ...] = (
        *("n_atom_basis", "n_interactions", "radial_basis", "n_rbf", "cutoff"),
        *("cutoff_fn", "shared_interactions", "shared_filters", "epsilon"),
        *("offsets", "n_layers", "n_hidden"),
    )

    @abstractmethod
    def sizes(self, weights: OriginalWeights) -> dict[str, int]:
        """Settings that show in the shapes, by their names there."""

    @abstractmethod
    def names(
        self, network: Any, *, every_level: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Our name and theirs of every weight of the levels.

        Args:
            network: Of ours.
            every_level: Shared levels as often as there, not once.
        """

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Sizes from the shapes; the settings must not say otherwise."""
        bessel = f"{BODY}.radial_basis.freqs" in weights
        soft = f"{BODY}.cutoff_fn.eps" in weights
        found: dict[str, Any] = {
            **self.sizes(weights),
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
        offsets = config.get("offsets", f"{OFFSETS}.mean" in weights)
        if offsets and f"{OFFSETS}.mean" not in weights:
            raise ConfigError(f"offsets: the weights hold no {OFFSETS}.mean")
        return {
            "species": list(range(1, weights.shape(f"{BODY}.embedding.weight")[0])),
            "cutoff": float(weights.take(f"{BODY}.cutoff_fn.cutoff")),
            "channels": found["n_atom_basis"],
            "num_levels": found["n_interactions"],
            "basis": BASES[found["radial_basis"]].kind,
            "num_basis": found["n_rbf"],
            "envelope": envelope,
            "shared_levels": bool(config.get("shared_interactions", False)),
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
        state = {ours: weights.take(theirs) for ours, theirs in self._all(network)}
        for _ours, theirs in self._all(network, every_level=True):
            weights.take(theirs)
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
        result = {t: state[ours] for ours, t in self._all(network, every_level=True)}
        for name, value in result.items():
            if name.startswith(OFFSETS):
                result[name] = value.flatten()
        like = state["embedding.weight"]
        result[f"{BODY}.cutoff_fn.cutoff"] = like.new_tensor([end.cutoff])
        if end.kind == "mollifier":
            result[f"{BODY}.cutoff_fn.eps"] = like.new_tensor([end.eps])
        return result

    def _all(
        self, network: Any, *, every_level: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Our name and theirs of every tensor."""
        yield "embedding.weight", f"{BODY}.embedding.weight"
        if isinstance(network.basis, BesselBasis):
            yield "basis.frequencies", f"{BODY}.radial_basis.freqs"
        else:
            yield "basis.offsets", f"{BODY}.radial_basis.offsets"
            yield "basis.widths", f"{BODY}.radial_basis.widths"
        yield from self.names(network, every_level=every_level)
        for j in range(len(network.head.mlp.linears)):
            yield from linear_names(f"head.mlp.{2 * j}", f"{HEAD}.{j}")
        if network.head.constant is not None:
            yield "head.constant", f"{OFFSETS}.mean"
            yield "head.shift", f"{OFFSETS}.atomref"


def linear_names(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Weight and bias of a linear layer."""
    for name in ("weight", "bias"):
        yield f"{ours}.{name}", f"{theirs}.{name}"
