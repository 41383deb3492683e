r"""Allegro of the nequip-allegro package: names, settings, and factors of e3nn.

==========================  ===================================================
theirs                      becomes
==========================  ===================================================
matrices of an MLP          times :math:`1/\sqrt{in}`, all but the first times
                            :math:`\sqrt 2` where there are activations,
                            transposed
columns (u, l) of weights   rows (l, u), times :math:`\sqrt{2 l + 1}`
of harmonics
path weights                times :math:`s = (-1)^{k(k+1)/2}`,
                            :math:`k = l_1 + l_2 - l`, transposed
bessel_weights              times :math:`\pi`, and :math:`1/\pi` in basis_linear
last matrix of edge_readout times :math:`1/\sqrt 2`
==========================  ===================================================

Edges point the other way there: odd tensors have the other sign, no energy changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.networks.original import OriginalWeights, check_head
from torch_cormorant.networks.original_mir import (
    OriginalMir,
    P,
    fold_linears,
    fold_mlp,
    is_plain,
    mlp_widths,
    unfold_linears,
    unfold_mlp,
)

if TYPE_CHECKING:
    from torch import nn

    from torch_cormorant.conv import AllegroBlock
    from torch_cormorant.nn.mlp import MLP

__all__ = ["OriginalAllegro"]

EMBED = f"{P}radial_chemical_embed"
SPLINE = f"{EMBED}.spline.class_embed.weight"
TYPES = f"{EMBED}.type_embed"
TWO_BODY = f"{P}scalar_embed_mlp.mlp_module"
TENSORS = f"{P}tensor_embed.env_embed_linear"
PROJECTION = f"{P}allegro.first_layer_env_embed_projection"
READOUT = f"{P}edge_readout.mlp_module"
DEFAULTS: dict[str, Any] = {
    "num_layers": 2,
    "parity": True,
    "num_tensor_features": 16,
    "tp_path_channel_coupling": True,
    "avg_num_neighbors": None,
}
ONLY: dict[str, Any] = {
    "weight_individual_irreps": True,
    "forward_normalize": True,
}
"""Settings that are read with this value only."""
NONLINEARITIES = (
    "scalar_embed_mlp_nonlinearity",
    "allegro_mlp_nonlinearity",
    "readout_mlp_nonlinearity",
)
IN_WEIGHTS = (
    *("num_scalar_features", "radial_chemical_embed_dim"),
    *("per_edge_type_cutoff", "pair_potential"),
    *("scalar_embed_mlp_hidden_layers_depth", "scalar_embed_mlp_hidden_layers_width"),
    *("allegro_mlp_hidden_layers_depth", "allegro_mlp_hidden_layers_width"),
    *("readout_mlp_hidden_layers_depth", "readout_mlp_hidden_layers_width"),
    *("per_type_energy_scales", "per_type_energy_shifts"),
    *("per_type_energy_scales_trainable", "per_type_energy_shifts_trainable"),
)
NO_NUMBERS = ("_target_", "seed", "model_dtype", "do_derivatives")
OF_EMBEDDING = {
    "TwoBodyBesselScalarEmbed": (
        *("_target_", "num_bessels", "bessel_trainable", "polynomial_cutoff_p"),
    ),
    "TwoBodySplineScalarEmbed": ("_target_", "num_splines", "spline_span"),
}


class OriginalAllegro(OriginalMir):
    """``allegro.model.AllegroModel``.

    A ``state_dict`` holds neither ``type_names``, ``r_max`` (where cutoffs differ
    between types), ``l_max``, ``parity``, ``num_tensor_features``,
    ``avg_num_neighbors``, ``radial_chemical_embed`` with ``polynomial_cutoff_p`` or
    ``spline_span``, nor which of scales and shifts are trained.
    """

    package = "nequip-allegro"
    anchor = f"{PROJECTION}.mlp.0.weight"
    settings = (
        *("r_max", "type_names", "l_max", "radial_chemical_embed"),
        *(*DEFAULTS, *ONLY, *NONLINEARITIES, *IN_WEIGHTS, *NO_NUMBERS),
    )
    ignored = r"model\._empty|.*\.w3j|.*\.spline\.(lower|upper)"
    only = ONLY
    bessel = f"{EMBED}.bessel_encode.bessel_weights"

    def bessel_trained(self, config: Mapping[str, Any]) -> bool:
        """Whether the frequencies are parameters."""
        return bool(config.get("radial_chemical_embed", {}).get("bessel_trainable"))

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """From the settings and, where they show there, the weights."""
        self.check_only(config)
        for name in ("l_max", "radial_chemical_embed"):
            if name not in config:
                raise ConfigError(f"config needs {name}, which the weights do not say")
        known = {**DEFAULTS, **config}
        latent = f"{P}allegro.latents.0"
        made = [mlp_widths(weights, q) for q in (TWO_BODY, latent, READOUT)]
        for (hidden, act), name in zip(made, NONLINEARITIES, strict=True):
            wanted = known.get(name, "silu")
            if hidden and (None if act == "identity" else act) != wanted:
                msg = (
                    f"the setting {name}={wanted!r} of nequip-allegro is not read here,"
                    " only 'silu' and None, as the weights have it"
                )
                raise ConfigError(msg)
        C, top = int(known["num_tensor_features"]), int(known["l_max"])
        rows = weights.shape(f"{PROJECTION}.mlp.0.weight")[1] - C * (top + 1)
        embedding, types, width = self._embedding(weights, known)
        shared = self.shared(weights, known, types)
        return {
            **shared,
            "channels": C,
            "scalars": rows,
            "embedding": embedding,
            "embedding_dim": width,
            "two_body": made[0][0],
            "latent": made[1][0],
            "readout": made[2][0],
            "acts": [act for _, act in made],
            "shared_weights": not known["tp_path_channel_coupling"],
        }

    def _embedding(
        self, weights: OriginalWeights, known: Mapping[str, Any]
    ) -> tuple[dict[str, Any], int, int]:
        """Options of the embedding, number of types, and its width."""
        given = dict(known["radial_chemical_embed"])
        target = str(given.get("_target_", "")).rsplit(".", 1)[-1]
        allowed = OF_EMBEDDING.get(target)
        odd = [name for name in given if allowed is None or name not in allowed]
        if odd:
            msg = (
                f"the radial_chemical_embed {given.get('_target_')!r} of "
                f"nequip-allegro with {odd} is not read here, only "
                f"{tuple(OF_EMBEDDING)}"
            )
            raise ConfigError(msg)
        if target == "TwoBodySplineScalarEmbed":
            pairs, numbers = weights.shape(SPLINE)
            count = int(given.get("num_splines", 16))
            options: dict[str, Any] = {
                "kind": "spline",
                "num_splines": count,
                "span": int(given.get("spline_span", 12)),
            }
            return options, math.isqrt(pairs), numbers // count
        hidden, _ = mlp_widths(weights, f"{TYPES}.basis_linear")
        types, half = weights.shape(f"{TYPES}.center_embed.weight")
        options = {
            "kind": "bessel",
            "num_basis": weights.shape(self.bessel)[1],
            "trainable": self.bessel_trained(known),
            "power": float(given.get("polynomial_cutoff_p", 6)),
            "hidden": hidden,
        }
        other = weights.shape(f"{TYPES}.neighbor_embed.weight")[1]
        return options, types, half + other

    def fold(
        self, weights: OriginalWeights, network: Any, _: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Our weights, with the factors of the table above."""
        state = self.fold_shared(weights)
        part = network.embedding
        if SPLINE in weights:
            state["embedding.splines.weight"] = weights.take(SPLINE)
        else:
            frequencies = weights.take(self.bessel)[0] * math.pi
            state["embedding.basis.frequencies"] = frequencies
            for name in ("center", "neighbor"):
                value = weights.take(f"{TYPES}.{name}_embed.weight")
                state[f"embedding.{name}.weight"] = value
            made = fold_mlp(weights, part.mlp, f"{TYPES}.basis_linear")
            made["0.weight"] = made["0.weight"] / math.pi
            state |= _under("embedding.mlp", made)
        for ours, theirs, skip in _mlps(network):
            mlp: MLP = network.get_submodule(ours)
            made = fold_mlp(weights, mlp, theirs)
            if skip is not None:
                name = list(made)[-1]
                made[name] = _by_degree(made[name], skip, network)
            state |= _under(ours, made)
        for s, block in enumerate(network.blocks):
            value = weights.take(f"{P}allegro.tps.{s}.weights")
            rows = value.reshape(*block.path_weights.shape[::-1]).T
            state[f"blocks.{s}.path_weights"] = rows * _signs(block, rows)
        linears, place, plain = _readout(network)
        *hidden, last = fold_linears(weights, linears, place, plain=plain)
        names = (f"readout.0.{2 * k}.weight" for k in range(len(hidden)))
        state |= dict(zip(names, hidden, strict=True))
        return {**state, "head.mlp.0.weight": last * 0.5**0.5}

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`."""
        check_head(network, self.package, constant=False, bias=False)
        if len(network.head.mlp.linears) > 1:
            raise self.refusal("a head with layers; it has a read-out of edges")
        result, part = self.unfold_shared(network), network.embedding
        if hasattr(part, "splines"):
            result[SPLINE] = part.splines.weight
        else:
            result[self.bessel] = part.basis.frequencies[None] / math.pi
            for name in ("center", "neighbor"):
                own = part.get_submodule(name).weight
                result[f"{TYPES}.{name}_embed.weight"] = own
            made = unfold_mlp(part.mlp, f"{TYPES}.basis_linear")
            name = next(iter(made))
            result |= {**made, name: made[name] * math.pi}
        for ours, theirs, skip in _mlps(network):
            made = unfold_mlp(network.get_submodule(ours), theirs)
            if skip is not None:
                name = list(made)[-1]
                made[name] = _by_channel(made[name], skip, network)
            result |= made
        for s, block in enumerate(network.blocks):
            rows = block.path_weights * _signs(block, block.path_weights)
            rows = rows[:, 0] if block.shared_weights else rows.T
            single = block.paths.num_paths == 1
            result[f"{P}allegro.tps.{s}.weights"] = rows[..., 0] if single else rows
        linears, place, plain = _readout(network)
        made = unfold_linears(linears, place, plain=plain)
        name = list(made)[-1]
        return result | made | {name: made[name] * 2**0.5}


def _under(place: str, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{place}.{name}": value for name, value in made.items()}


def _mlps(network: Any) -> list[tuple[str, str, int | None]]:
    """Our name and theirs of MLPs, and how many rows come before those of degrees."""
    S, last = network.scalars, len(network.blocks) - 1
    latents: list[tuple[str, str, int | None]] = [
        (f"blocks.{s}.latent", f"{P}allegro.latents.{s}", None if s == last else S)
        for s in range(last + 1)
    ]
    return [
        ("two_body", TWO_BODY, None),
        ("tensors", TENSORS, 0),
        ("projection", PROJECTION, S),
        *latents,
    ]


def _readout(network: Any) -> tuple[list[nn.Linear], str, bool]:
    """Linear layers of the read-out of edges, its name, and whether it is linear."""
    hidden = network.readout
    linears = [*(hidden[0].linears if len(hidden) else []), *network.head.mlp.linears]
    return linears, READOUT, len(hidden) > 0 and is_plain(hidden)


def _roots(network: Any, like: Tensor) -> Tensor:
    return (2 * torch.arange(network.lmax + 1, device=like.device) + 1).to(like).sqrt()


def _by_degree(rows: Tensor, skip: int, network: Any) -> Tensor:
    """Rows (u, l) as rows (l, u), with the roots."""
    first, rest = rows[:skip], rows[skip:].unflatten(0, (network.channels, -1))
    rest = rest.transpose(0, 1) * _roots(network, rows)[:, None, None]
    return torch.cat([first, rest.flatten(0, 1)])


def _by_channel(columns: Tensor, skip: int, network: Any) -> Tensor:
    """The inverse, for columns."""
    first, rest = columns[:, :skip], columns[:, skip:]
    rest = rest.unflatten(1, (-1, network.channels)) / _roots(network, columns)[:, None]
    return torch.cat([first, rest.transpose(1, 2).flatten(1)], dim=1)


def _signs(block: AllegroBlock, like: Tensor) -> Tensor:
    return torch.tensor(block.paths.signs(), device=like.device).to(like).unsqueeze(1)
