r"""What the networks of the nequip family of packages share: names, types, factors.

Matrices of their MLPs have the factor :math:`1/\sqrt{in}`, all but the first of those
with an activation :math:`\sqrt 2` beside it, and are transposed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_cormorant.elements import NUMBERS
from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.networks.nequip_zbl import UNITS
from torch_cormorant.networks.original import Original, OriginalWeights

if TYPE_CHECKING:
    from torch_cormorant.nn.mlp import MLP

__all__ = [
    "OriginalMir",
    "by_type",
    "fold_linears",
    "fold_mlp",
    "mlp_widths",
    "unfold_linears",
    "unfold_mlp",
]

P = "model.func."
SCALES = f"{P}per_type_energy_scale_shift"
RECIP = f"{P}edge_norm._rmax_recip"
ZBL = f"{P}pair_potential"


class OriginalMir(Original):
    """A network of the nequip package or of one that builds on it.

    Attributes:
        only: Settings that are read with one value only.
        bessel: Name of the frequencies.
    """

    only: Mapping[str, Any]
    bessel: str

    def open(
        self, weights: Mapping[str, Any], config: Mapping[str, Any]
    ) -> OriginalWeights:
        """Averaged weights of a checkpoint are taken, where there are any."""
        given = super().open(weights, config)
        averaged = {
            int(found[1]): value
            for name, value in weights.items()
            if (found := re.fullmatch(r"(?:.*\.)?ema\.ema_weight_(\d+)", name))
        }
        if averaged:
            names = [name for name in given.known if self._is_trained(name, config)]
            shapes = [given.shape(name) for name in names]
            values = [averaged[k] for k in sorted(averaged)]
            if [tuple(value.shape) for value in values] != shapes:
                msg = (
                    "the averaged weights ema.ema_weight_* do not have the shapes of "
                    "the parameters; leave them out to read those of the last step"
                )
                raise WeightsError(msg)
            given.known |= dict(zip(names, values, strict=True))
        return given

    def _is_trained(self, name: str, config: Mapping[str, Any]) -> bool:
        """Whether an entry of a ``state_dict`` is a parameter there."""
        settings = {
            f"{SCALES}.scales": config.get("per_type_energy_scales_trainable"),
            f"{SCALES}.shifts": config.get("per_type_energy_shifts_trainable"),
            self.bessel: self.bessel_trained(config),
        }
        if name in settings:
            return bool(settings[name])
        return not name.startswith((RECIP, f"{ZBL}."))

    def bessel_trained(self, config: Mapping[str, Any]) -> bool:
        """Whether the frequencies are parameters."""
        return bool(config.get("bessel_trainable"))

    def check_only(self, config: Mapping[str, Any]) -> None:
        """Refuse other values of settings that are read with one only."""
        for name, value in self.only.items():
            if config.get(name, value) != value:
                msg = (
                    f"the setting {name}={config[name]!r} of {self.package} is not read"
                    f" here, only {value!r}"
                )
                raise ConfigError(msg)

    def shared(
        self, weights: OriginalWeights, known: Mapping[str, Any], types: int
    ) -> dict[str, Any]:
        """Arguments of our constructors that all of these networks have."""
        names = list(known.get("type_names", ()))
        recip = weights.take(RECIP).detach().double()
        if recip.numel() > 1 and "r_max" not in known:
            raise ConfigError("config needs r_max: cutoffs differ between types")
        zbl = self._zbl(weights, known.get("pair_potential"))
        return {
            "species": self._species(weights, names, types),
            "cutoff": float(known.get("r_max", 1 / recip.max())),
            "lmax": int(known["l_max"]),
            "parity": bool(known["parity"]),
            "num_levels": int(known["num_layers"]),
            "avg_num_neighbors": by_type(known["avg_num_neighbors"], names),
            "edge_cutoffs": (1 / recip).reshape(types, types).tolist()
            if recip.numel() > 1
            else None,
            "zbl": zbl,
            "head": {
                "kind": "atomwise",
                "bias": False,
                **_kinds(weights, known),
                "pair": zbl is not None,
            },
        }

    def _species(
        self, weights: OriginalWeights, names: list[str], types: int
    ) -> list[int]:
        """Atomic numbers of the types, from the repulsion or from their names."""
        place = f"{ZBL}.atomic_numbers"
        if place in weights:
            return [round(z) for z in weights.take(place).tolist()]
        odd = [name for name in names if name not in NUMBERS]
        if odd or len(names) != types:
            msg = (
                f"config needs type_names, {types} symbols of elements, got {names}; "
                "give species=[...] to from_original for other names"
            )
            raise ConfigError(msg)
        return [NUMBERS[name] for name in names]

    def _zbl(self, weights: OriginalWeights, setting: Any) -> str | None:
        """Units of the repulsion, if there is one."""
        place = f"{ZBL}._qqr2exesquare"
        if place not in weights:
            if setting is not None:
                kind = setting.get("_target_", setting)
                msg = (
                    f"the pair_potential {kind!r} of {self.package} is not read here, "
                    "only ZBL"
                )
                raise ConfigError(msg)
            return None
        half = float(weights.take(place))
        for units, value in UNITS.items():
            if math.isclose(2 * half, value, rel_tol=1e-6):
                return units
        msg = f"{place} is {half}, neither of the units {tuple(UNITS)}"
        raise WeightsError(msg)

    def fold_shared(self, weights: OriginalWeights) -> dict[str, Tensor]:
        """Our cutoffs, scales and shifts."""
        state = {"recip": weights.take(RECIP).reshape(-1)}
        for part in ("scale", "shift"):
            value = weights.take(f"{SCALES}.{part}s")
            if value.numel():
                state[f"head.{part}"] = value
        return state

    def unfold_shared(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold_shared`, and the repulsion."""
        state = network.state_dict()
        recip = state["recip"]
        result = {RECIP: recip if len(recip) > 1 else recip[0]}
        for part in ("scale", "shift"):
            empty = recip.new_zeros(0)
            result[f"{SCALES}.{part}s"] = state.get(f"head.{part}", empty)
        if network.zbl is not None:
            half = torch.tensor(UNITS[network.zbl] / 2, dtype=torch.float64)
            result[f"{ZBL}._qqr2exesquare"] = half
            result[f"{ZBL}.atomic_numbers"] = recip.new_tensor(network.index.species)
        return result


def _places(
    linears: Sequence[nn.Linear], place: str, *, plain: bool
) -> Iterator[tuple[str, float]]:
    """Their name and the factor of every matrix of an MLP.

    Without activations (``plain``) theirs is a list of matrices.
    """
    plain = plain and len(linears) > 1
    for k, linear in enumerate(linears):
        gain = 2 if k and not plain else 1
        name = f"weights.{k}" if plain else f"{2 * k}.weight"
        yield f"{place}.mlp.{name}", (gain / linear.in_features) ** 0.5


def is_plain(mlp: nn.Sequential) -> bool:
    """Whether an MLP has no activations."""
    return len(mlp) > 1 and isinstance(mlp[1], nn.Identity)


def mlp_widths(weights: OriginalWeights, place: str) -> tuple[list[int], str]:
    """Widths of the hidden layers of an MLP, and its activation."""
    for pattern, step, act in (
        (place + ".mlp.{}.weight", 2, "silu"),
        (place + ".mlp.weights.{}", 1, "identity"),
    ):
        depth = weights.count(pattern, step=step)
        if depth:
            names = [pattern.format(step * k) for k in range(depth - 1)]
            return [weights.shape(name)[1] for name in names], act
    msg = f"weight {place + '.mlp.0.weight'!r} is missing"
    raise WeightsError(msg)


def fold_linears(
    weights: OriginalWeights, linears: Sequence[nn.Linear], place: str, *, plain: bool
) -> list[Tensor]:
    """Our matrices of linear layers.

    Args:
        weights: Theirs.
        linears: Ours, for the shapes.
        place: Name of their MLP.
        plain: Theirs has no activations.
    """
    found = []
    for linear, (name, factor) in zip(
        linears, _places(linears, place, plain=plain), strict=True
    ):
        shape = (linear.in_features, linear.out_features)
        found.append(weights.take(name, *shape).T * factor)
    return found


def unfold_linears(
    linears: Sequence[nn.Linear], place: str, *, plain: bool
) -> dict[str, Tensor]:
    """The inverse of :func:`fold_linears`."""
    places = _places(linears, place, plain=plain)
    return {
        name: linear.weight.T / factor
        for linear, (name, factor) in zip(linears, places, strict=True)
    }


def fold_mlp(
    weights: OriginalWeights, mlp: MLP, place: str, last: Tensor | None = None
) -> dict[str, Tensor]:
    """Our matrices of an MLP by their names in it.

    Args:
        weights: Theirs.
        mlp: Ours, for the shapes.
        place: Name of theirs.
        last: Factor of every row of our last matrix. Default: one.
    """
    made = fold_linears(weights, mlp.linears, place, plain=is_plain(mlp))
    if last is not None:
        made[-1] = made[-1] * last.to(made[-1]).unsqueeze(1)
    return {f"{2 * k}.weight": matrix for k, matrix in enumerate(made)}


def unfold_mlp(mlp: MLP, place: str, last: Tensor | None = None) -> dict[str, Tensor]:
    """The inverse of :func:`fold_mlp`."""
    result = unfold_linears(mlp.linears, place, plain=is_plain(mlp))
    if last is not None:
        name = list(result)[-1]
        result[name] = result[name] / last.to(result[name])
    return result


def by_type(value: Any, names: list[str]) -> Any:
    """A number, or one for each type in their order."""
    if value is None:
        return 1.0
    if isinstance(value, Mapping):
        missing = [name for name in names if name not in value]
        if missing or not names:
            raise ConfigError(f"avg_num_neighbors has no entry for {missing or names}")
        return [float(value[name]) for name in names]
    return float(value)


def _kinds(weights: OriginalWeights, known: Mapping[str, Any]) -> dict[str, Any]:
    """Which scales and shifts the head has."""
    found: dict[str, Any] = {"trainable": []}
    for ours in ("scale", "shift"):
        rows = math.prod(weights.shape(f"{SCALES}.{ours}s"))
        found[ours] = (None, "shared", "species")[min(rows, 2)]
        if known.get(f"per_type_energy_{ours}s_trainable"):
            found["trainable"].append(ours)
    return found
