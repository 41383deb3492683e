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
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_cormorant.elements import NUMBERS
from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.networks.nequip_zbl import UNITS
from torch_cormorant.networks.original import Original, OriginalWeights, check_head

if TYPE_CHECKING:
    from torch_cormorant.conv import NequIPConv
    from torch_cormorant.nn.mlp import MLP

__all__ = ["OriginalNequIP"]

P = "model.func."
READOUT = f"{P}per_atom_energy_readout.mlp_module"
SCALES = f"{P}per_type_energy_scale_shift"
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


class OriginalNequIP(Original):
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
            names = [name for name in given.known if _is_trained(name, config)]
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

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """From the settings and, where they show there, the weights."""
        for name, value in ONLY.items():
            if config.get(name, value) != value:
                msg = (
                    f"the setting {name}={config[name]!r} of nequip is not read here, "
                    f"only {value!r}"
                )
                raise ConfigError(msg)
        known = {**DEFAULTS, **config}
        types, width = weights.shape(f"{P}type_embed.embed_module.weight")
        names = list(known.get("type_names", ()))
        recip = weights.take(f"{P}edge_norm._rmax_recip").detach().double()
        if recip.numel() > 1 and "r_max" not in known:
            raise ConfigError("config needs r_max: cutoffs differ between types")
        depth = weights.count(P + "layer0_convnet.conv.edge_mlp.mlp.{}.weight", step=2)
        radial = [
            weights.shape(f"{P}layer0_convnet.conv.edge_mlp.mlp.{2 * k}.weight")[1]
            for k in range(depth - 1)
        ]
        depth = weights.count(READOUT + ".mlp.{}.weight", step=2)
        layers = [
            weights.shape(f"{READOUT}.mlp.{2 * k}.weight")[1] for k in range(depth - 1)
        ]
        zbl = self._zbl(weights, known.get("pair_potential"))
        return {
            "species": self._species(weights, names, types),
            "cutoff": float(known.get("r_max", 1 / recip.max())),
            "channels": known["num_features"],
            "num_levels": int(known["num_layers"]),
            "lmax": int(known["l_max"]),
            "parity": bool(known["parity"]),
            "embedding": width,
            "num_basis": weights.shape(f"{P}bessel_encode.bessel_weights")[1],
            "trainable_basis": bool(known.get("bessel_trainable", False)),
            "power": float(known["polynomial_cutoff_p"]),
            "radial": radial,
            "avg_num_neighbors": _by_type(known["avg_num_neighbors"], names),
            "edge_cutoffs": (1 / recip).reshape(types, types).tolist()
            if recip.numel() > 1
            else None,
            "zbl": zbl,
            "constants": "e3nn",
            "head": {
                "kind": "atomwise",
                "layers": layers,
                "bias": False,
                **_kinds(weights, known),
                "pair": zbl is not None,
            },
        }

    def _species(
        self, weights: OriginalWeights, names: list[str], types: int
    ) -> list[int]:
        """Atomic numbers of the types, from the repulsion or from their names."""
        place = f"{P}pair_potential.atomic_numbers"
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
        place = f"{P}pair_potential._qqr2exesquare"
        if place not in weights:
            if setting is not None:
                kind = setting.get("_target_", setting)
                msg = (
                    f"the pair_potential {kind!r} of nequip is not read here, only ZBL"
                )
                raise ConfigError(msg)
            return None
        half = float(weights.take(place))
        for units, value in UNITS.items():
            if math.isclose(2 * half, value, rel_tol=1e-6):
                return units
        msg = f"{place} is {half}, neither of the units {tuple(UNITS)}"
        raise WeightsError(msg)

    def fold(
        self, weights: OriginalWeights, network: Any, _: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Our weights, with the factors of the table above."""
        frequencies = weights.take(f"{P}bessel_encode.bessel_weights")[0] * math.pi
        state = {
            "embedding.weight": weights.take(f"{P}type_embed.embed_module.weight"),
            "recip": weights.take(f"{P}edge_norm._rmax_recip").reshape(-1),
            "basis.frequencies": frequencies,
        }
        for s, (conv, radial) in enumerate(
            zip(network.convs, network.radials, strict=True)
        ):
            q = f"{P}layer{s}_convnet.conv"
            for name, factor, shape in _mlp(radial, conv):
                theirs = weights.take(f"{q}.edge_mlp.mlp.{name}", *shape).T
                state[f"radials.{s}.{name}"] = theirs * factor.to(theirs)
            for part, old in _maps(conv):
                flat = weights.take(f"{q}.{old}.weight")
                state |= _blocks(flat, conv.get_submodule(part), f"convs.{s}.{part}", q)
        for name, factor, shape in _mlp(network.head.mlp):
            theirs = weights.take(f"{READOUT}.mlp.{name}", *shape).T
            state[f"head.mlp.{name}"] = theirs * factor.to(theirs)
        for part in ("scale", "shift"):
            value = weights.take(f"{SCALES}.{part}s")
            if value.numel():
                state[f"head.{part}"] = value
        return state

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`."""
        check_head(network, self.package, constant=False, bias=False)
        if network.constants != "e3nn":
            raise self.refusal("exact constants; networks for it need constants='e3nn'")
        state = network.state_dict()
        recip = state["recip"]
        result = {
            f"{P}type_embed.embed_module.weight": state["embedding.weight"],
            f"{P}edge_norm._rmax_recip": recip if len(recip) > 1 else recip[0],
            f"{P}bessel_encode.bessel_weights": state["basis.frequencies"][None]
            / math.pi,
        }
        for s, (conv, radial) in enumerate(
            zip(network.convs, network.radials, strict=True)
        ):
            q = f"{P}layer{s}_convnet.conv"
            for name, factor, _ in _mlp(radial, conv):
                ours = state[f"radials.{s}.{name}"]
                result[f"{q}.edge_mlp.mlp.{name}"] = (ours / factor.to(ours)).T
            for part, old in _maps(conv):
                weights = conv.get_submodule(part).weights
                parts = [w.flatten() * _fan_in(w) ** 0.5 for w in weights.values()]
                result[f"{q}.{old}.weight"] = torch.cat(parts)
        for name, factor, _ in _mlp(network.head.mlp):
            ours = state[f"head.mlp.{name}"]
            result[f"{READOUT}.mlp.{name}"] = (ours / factor.to(ours)).T
        for part in ("scale", "shift"):
            empty = recip.new_zeros(0)
            result[f"{SCALES}.{part}s"] = state.get(f"head.{part}", empty)
        if network.zbl is not None:
            place = f"{P}pair_potential"
            half = torch.tensor(UNITS[network.zbl] / 2, dtype=torch.float64)
            result[f"{place}._qqr2exesquare"] = half
            result[f"{place}.atomic_numbers"] = recip.new_tensor(network.index.species)
        return result


def _is_trained(name: str, config: Mapping[str, Any]) -> bool:
    """Whether an entry of a ``state_dict`` is a parameter there."""
    settings = {
        f"{P}bessel_encode.bessel_weights": "bessel_trainable",
        f"{SCALES}.scales": "per_type_energy_scales_trainable",
        f"{SCALES}.shifts": "per_type_energy_shifts_trainable",
    }
    if name in settings:
        return bool(config.get(settings[name]))
    return not name.startswith((f"{P}edge_norm.", f"{P}pair_potential."))


def _mlp(
    mlp: MLP, conv: NequIPConv | None = None
) -> Iterator[tuple[str, Tensor, tuple[int, int]]]:
    """Name, factor and shape of every matrix; the last of a layer by its paths."""
    last = len(mlp.linears) - 1
    for k, linear in enumerate(mlp.linears):
        factor = ((2 if k else 1) / linear.in_features) ** 0.5
        rows = torch.tensor([factor], dtype=torch.float64)
        if conv is not None and k == last:
            rows = factor * conv.path_factors(signs=True)
        shape = (linear.in_features, linear.out_features)
        yield f"{2 * k}.weight", rows.unsqueeze(1), shape


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


def _by_type(value: Any, names: list[str]) -> Any:
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
