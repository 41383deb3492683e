r"""SEGNN of the repository Steerable-E3-GNN: names, settings, and signs of e3nn.

All factors of its products cancel, so weights go over with a sign for each path:
:math:`s = (-1)^{k(k+1)/2}`, :math:`k = l_1 + l_2 - l`. Its flat rows of weights hold
one ``[u, w]`` block for each path, the first operand outside; ours has one matrix for
each irrep of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks.original import Original, OriginalWeights
from torch_cormorant.nn.heads import PooledHead

if TYPE_CHECKING:
    from torch_cormorant.networks.segnn_trunk import SEGNNTrunk
    from torch_cormorant.nn.steerable_linear import SteerableLinear

__all__ = ["OriginalSEGNN", "OriginalSEGNNBodies"]

ANCHOR = "embedding_layer.tp.weight"
POOLS = {"avg": "mean", "sum": "sum"}


class _OfTrunk(Original):
    """What both kinds of networks share."""

    package = "Steerable-E3-GNN"
    anchor = ANCHOR

    def trunk_arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Arguments of our constructors that are those of the trunk."""
        if "hidden" not in config:
            raise ConfigError('config needs hidden, such as "36x0e+36x1o+36x2e"')
        hidden = Irreps(config["hidden"])
        natural = [(l, (-1) ** l) for l in range(len(hidden))]
        if [ir for _, ir in hidden] != natural:
            msg = f"hidden must be of degrees 0e, 1o, 2e, ..., got {hidden}"
            raise ConfigError(msg)
        layer = "nonlinear"
        for name, found in (("update_layer_1", "segnn"), ("message_layer", "linear")):
            if f"layers.0.{name}.tp.weight" in weights:
                layer = found
        place = {"linear": "message_layer"}.get(layer, "message_layer_1")
        norm = "layers.0.feature_norm.weight" in weights
        return {
            "channels": [mul for mul, _ in hidden],
            "lmax": len(hidden) - 1,
            "lmax_attr": int(config.get("lmax_attr", len(hidden) - 1)),
            "num_levels": weights.count(f"layers.{{}}.{place}.tp.weight"),
            "layer": layer,
            "norm": "instance" if norm else None,
            "constants": "e3nn",
        }

    def fold_trunk(
        self, weights: OriginalWeights, trunk: SEGNNTrunk
    ) -> dict[str, Tensor]:
        """Our weights of the trunk."""
        state: dict[str, Tensor] = {}
        for ours, theirs, part in _parts(trunk):
            if hasattr(part, "linear"):
                made = fold_steerable(weights, part, theirs)
            else:
                names = ("weight", "bias")
                made = {name: weights.take(f"{theirs}.{name}") for name in names}
            state |= {f"trunk.{ours}.{name}": value for name, value in made.items()}
        return state

    def unfold_trunk(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold_trunk`."""
        if network.constants != "e3nn":
            raise self.refusal("exact constants (it needs constants='e3nn')")
        result: dict[str, Tensor] = {}
        for _, theirs, part in _parts(network.trunk):
            if hasattr(part, "linear"):
                result |= unfold_steerable(part, theirs)
            else:
                result[f"{theirs}.weight"] = part.weight
                result[f"{theirs}.bias"] = part.bias
        return result


class OriginalSEGNN(_OfTrunk):
    """``models.segnn.segnn.SEGNN`` and ``SEConv`` for ``task="graph"``.

    A ``state_dict`` holds neither ``hidden`` (the irreps of features), ``lmax_attr``,
    ``pool``, ``radius`` nor ``species``, the order of the one-hot rows.
    """

    settings = ("hidden", "lmax_attr", "pool", "radius", "species")

    def prefixes(self, weights: Any) -> list[str]:
        """Networks that end with numbers of molecules."""
        names = set(weights)
        found = super().prefixes(names)
        return [p for p in found if f"{p}post_pool2.tp.weight" in names]

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """From the settings and, where they show there, the weights."""
        pool = config.get("pool", "avg")
        if pool not in POOLS:
            msg = f"the setting pool={pool!r} is not read here, only {tuple(POOLS)}"
            raise ConfigError(msg)
        targets = weights.shape("post_pool2.biases")[0]
        return {
            **self.trunk_arguments(weights, config),
            "species": [int(z) for z in config.get("species", (1, 6, 7, 8, 9))],
            "cutoff": float(config.get("radius", 2.0)),
            "envelope": None,
            "num_targets": targets,
            "head": {"kind": "pooled", "pool": POOLS[pool]},
        }

    def fold(
        self, weights: OriginalWeights, network: Any, _: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Our weights, with the signs of the table above."""
        state = self.fold_trunk(weights, network.trunk)
        for k, linear in enumerate(network.head.mlp.linears):
            place, shape = f"post_pool{k + 1}", tuple(linear.weight.shape)
            flat = weights.take(f"{place}.tp.weight", math.prod(shape))
            state[f"head.mlp.{2 * k}.weight"] = flat.view(shape[::-1]).T
            state[f"head.mlp.{2 * k}.bias"] = weights.take(f"{place}.biases", shape[0])
        return state

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`."""
        head = network.head
        if not isinstance(head, PooledHead) or head.pool not in POOLS.values():
            raise self.refusal(f"the head {head.kind!r}")
        linears = head.mlp.linears
        if len(linears) != 2 or not isinstance(head.mlp[1], nn.SiLU):
            raise self.refusal("a head with other layers or activations")
        if linears[0].out_features != linears[0].in_features:
            raise self.refusal("a head with another width than its input")
        if network.smooth_cutoff:
            raise self.refusal("an envelope")
        result = self.unfold_trunk(network)
        for k, linear in enumerate(linears):
            result[f"post_pool{k + 1}.tp.weight"] = linear.weight.T.flatten()
            result[f"post_pool{k + 1}.biases"] = linear.bias
        return result


class OriginalSEGNNBodies(_OfTrunk):
    """The same classes for ``task="node"``, as trained on the N-body problem.

    A ``state_dict`` holds neither ``hidden`` nor ``lmax_attr``. ``published_mean``
    (default true): positions relative to the mean of their own coordinates, as in the
    published code.
    """

    settings = ("hidden", "lmax_attr", "published_mean")

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """From the settings and, where they show there, the weights."""
        published = bool(config.get("published_mean", True))
        return {
            **self.trunk_arguments(weights, config),
            "centre": "published" if published else "system",
        }

    def fold(
        self, weights: OriginalWeights, network: Any, _: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Our weights, with the signs of the table above."""
        return self.fold_trunk(weights, network.trunk)

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`."""
        return self.unfold_trunk(network)


def _parts(trunk: SEGNNTrunk) -> Iterator[tuple[str, str, Any]]:
    """Our name, theirs and the module of everything with weights."""
    yield "embedding", "embedding_layer", trunk.embedding
    names = ["message_1", "message_2"]
    names += ["update_1", "update_2"] if trunk.layer == "segnn" else []
    for s, conv in enumerate(trunk.convs):
        for name in names:
            part = getattr(conv, name)
            if part is None:
                continue
            kind, number = name.split("_")
            theirs = f"layers.{s}.{kind}_layer"
            theirs += "" if trunk.layer == "linear" else f"_{number}"
            yield from _steerable(f"convs.{s}.{name}", theirs, part)
        if trunk.norm is not None:
            yield f"norms.{s}", f"layers.{s}.feature_norm", trunk.norms[s]
    yield from _steerable("read_1", "pre_pool1", trunk.read_1)
    yield from _steerable("read_2", "pre_pool2", trunk.read_2)


def _steerable(ours: str, theirs: str, part: Any) -> Iterator[tuple[str, str, Any]]:
    """A product, or the one of a product with a gate."""
    if hasattr(part, "map"):
        yield f"{ours}.map", theirs, part.map
    else:
        yield ours, theirs, part


def _rows(part: SteerableLinear) -> list[tuple[int, int, str, int]]:
    """Rows, columns, irrep and sign of every path, in the order of their weights."""
    paths, signs = part.paths, part.paths.signs()
    found = []
    for path, sign in zip(paths.paths, signs, strict=True):
        ir = paths.out[path.out].ir
        width = part.linear.irreps_out.count(ir)
        found.append((paths.first[path.first].mul, width, str(ir), sign))
    return found


def fold_steerable(
    weights: OriginalWeights, part: SteerableLinear, place: str
) -> dict[str, Tensor]:
    """Our weights of a product with an attribute, by their names in it."""
    rows = _rows(part)
    sizes = [u * w for u, w, _, _ in rows]
    flat = weights.take(f"{place}.tp.weight", sum(sizes))
    made: dict[str, list[Tensor]] = {}
    for (u, w, ir, sign), piece in zip(rows, flat.split(sizes), strict=True):
        made.setdefault(ir, []).append(sign * piece.view(u, w))
    state = {f"linear.weights.{ir}": torch.cat(parts) for ir, parts in made.items()}
    if part.linear.bias is not None:
        count = part.linear.bias.shape[0]
        state["linear.bias"] = weights.take(f"{place}.biases", count)
    return state


def unfold_steerable(part: SteerableLinear, place: str) -> dict[str, Tensor]:
    """The inverse of :func:`fold_steerable`."""
    left: dict[str, Tensor] = dict(part.linear.weights)
    pieces = []
    for u, _, ir, sign in _rows(part):
        pieces.append(sign * left[ir][:u].flatten())
        left[ir] = left[ir][u:]
    result = {f"{place}.tp.weight": torch.cat(pieces)}
    if part.linear.bias is not None:
        result[f"{place}.biases"] = part.linear.bias
    return result
