r"""The SE(3)-Transformer of its authors: names, settings, factors and signs.

Its kernels are :math:`s \, (-1)^J \sqrt{(2 J + 1) / (4 \pi (2 l_{out} + 1))}` times
ours, with signs s that a singular value decomposition left open and that its code
keeps on disk, not in the weights: ``q_signs`` in the settings holds rows
``(J, l_in, l_out, s)``. All of it is folded into the last layers of the radial
networks. A wrong sign is the same as a radial function with the other sign, and nothing
tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.networks.original import Original, OriginalWeights
from torch_cormorant.nn.heads import PooledHead

if TYPE_CHECKING:
    from torch_cormorant.networks.se3_trunk import SE3Trunk
    from torch_cormorant.nn.edge_kernel import EdgeKernel

__all__ = ["OriginalSE3Bodies", "OriginalSE3Transformer"]

RADIAL = "kernel_unary.({}).rp.net"
LAYERS = {"0": "0", "1": "1.bn", "3": "3", "4": "4.bn", "6": "6"}
"""Our names and theirs in a radial network."""
POOLS = {"avg": "mean", "max": "max"}


class _OfTrunk(Original):
    """What both kinds of networks share."""

    package = "se3-transformer-public"

    def fold(
        self, weights: OriginalWeights, network: Any, config: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Our weights, with the factors of the module's docstring."""
        signs = _signs(config)
        state: dict[str, Tensor] = {}
        for ours, theirs, kind, part in _parts(network):
            if kind == "kernel":
                made = _fold_kernel(weights, part, theirs, signs)
                state |= {f"{ours}.{name}": value for name, value in made.items()}
            else:
                state[ours] = _turned(weights.take(theirs), kind)
        for ours, irreps, places in _biases(network):
            rows = [weights.take(places.format(ir.l)).flatten() for _, ir in irreps]
            state[ours] = torch.cat(rows)
        return state

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`, for signs that are all positive."""
        result: dict[str, Tensor] = {}
        own = network.state_dict()
        for ours, theirs, kind, part in _parts(network):
            if kind == "kernel":
                result |= _unfold_kernel(part, theirs)
            else:
                result[theirs] = _turned(own[ours], kind, back=True)
        for ours, irreps, places in _biases(network):
            rows = own[ours].split([mul for mul, _ in irreps])
            for row, (_, ir) in zip(rows, irreps, strict=True):
                result[places.format(ir.l)] = row.unsqueeze(0)
        return result


class OriginalSE3Transformer(_OfTrunk):
    """``experiments.qm9.models.SE3Transformer`` and ``TFN``.

    A ``state_dict`` holds neither ``q_signs``, ``n_heads``, ``div``, ``pooling`` nor
    ``species``, the order of the one-hot rows.
    """

    anchor = "FCblock.0.weight"
    settings = ("q_signs", "n_heads", "div", "pooling", "species")

    def prefixes(self, weights: Any) -> list[str]:
        """Networks with attention, and without."""
        names, last = list(weights), "rp.net.6.weight"
        found = super().prefixes(names) + [
            name.removesuffix("block2.0.weight")
            for name in names
            if f".{name}".endswith(".block2.0.weight")
        ]
        return [
            p
            for p in found
            if any(
                n.startswith((f"{p}Gblock.0.", f"{p}block0.0.")) and last in n
                for n in names
            )
        ]

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """From the settings and, where they show there, the weights."""
        _signs(config)
        attention = self.anchor in weights
        block, end = ("Gblock", "FCblock") if attention else ("block0", "block2")
        norm = f"{block}.1.transform"
        count = weights.count(norm + ".{}.0.bn.weight")
        last = block + ".{}.transform.0.0.bn.weight"
        levels = sum(last.format(2 * s + 1) in weights for s in range(99))
        pool = config.get("pooling", "avg" if attention else "max")
        if pool not in POOLS:
            msg = f"the setting pooling={pool!r} is not read here, only {tuple(POOLS)}"
            raise ConfigError(msg)
        first = f"{block}.0.GMAB.v" if attention else f"{block}.0"
        inputs = weights.shape(f"{first}.{RADIAL.format('0,0')}.0.weight")[1]
        options: dict[str, Any] = {}
        if attention:
            options["heads"] = int(config.get("n_heads", 1))
            options["div"] = float(config.get("div", 4))
        return {
            "species": [int(z) for z in config.get("species", (1, 6, 7, 8, 9))],
            "cutoff": None,
            "channels": weights.shape(f"{norm}.0.0.bn.weight")[0],
            "num_degrees": count,
            "num_levels": levels,
            "attention": attention,
            "edge_dim": inputs - 1,
            "norm_linear": f"{norm}.0.2.weight" in weights,
            "eps": 0.0,
            "num_targets": weights.shape(f"{end}.2.weight")[0],
            "head": {"kind": "pooled", "pool": POOLS[pool], "act": "relu"},
            **options,
        }

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`, for signs that are all positive."""
        head = network.head
        if not isinstance(head, PooledHead) or head.pool not in POOLS.values():
            raise self.refusal(f"the head {head.kind!r}")
        if len(head.mlp.linears) != 2 or not isinstance(head.mlp[1], nn.ReLU):
            raise self.refusal("a head with other layers or activations")
        if network.cutoff is not None or network.eps:
            raise self.refusal("a cutoff, or norms with eps")
        return super().unfold(network)


class OriginalSE3Bodies(_OfTrunk):
    """``experiments.nbody.models.SE3Transformer``.

    A ``state_dict`` holds neither ``q_signs``, ``n_heads``, ``div`` nor ``x_ij``.
    """

    anchor = "Gblock.1.bias.0"
    settings = ("q_signs", "n_heads", "div", "x_ij")

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """From the settings and, where they show there, the weights."""
        _signs(config)
        count = weights.count("Gblock.1.bias.{}")
        levels = sum(f"Gblock.{2 * s + 1}.bias.0" in weights for s in range(99))
        last = f"Gblock.{2 * levels}.project.transform.1.0.weight"
        first = "Gblock.0.project.transform.0.0.weight"
        return {
            "channels": weights.shape("Gblock.1.bias.0")[1],
            "num_degrees": count,
            "num_levels": levels,
            "heads": int(config.get("n_heads", 1)),
            "div": float(config.get("div", 4)),
            "relative": config.get("x_ij"),
            "mixing": "attentive" if first in weights else "linear",
            "last_mixing": "attentive" if last in weights else "linear",
        }


Signs = dict[tuple[int, int, int], float]


def _signs(config: Mapping[str, Any]) -> Signs:
    """Signs by (J, l_in, l_out).

    Raises:
        ConfigError: They are not given: weights mean nothing without them.
    """
    if "q_signs" not in config:
        msg = (
            "config needs q_signs: rows (J, l_in, l_out, sign) of the basis kernels "
            "that the weights were trained with, which its code keeps on disk; to "
            "write them, compare its kernels with exact Clebsch-Gordan tables"
        )
        raise ConfigError(msg)
    return {(int(J), int(a), int(b)): float(s) for J, a, b, s in config["q_signs"]}


def _factor(J: int, l_out: int) -> float:
    """Their kernel over ours, but for the sign."""
    root = math.sqrt((2 * J + 1) / (4 * math.pi * (2 * l_out + 1)))
    return float((-1) ** J) * root


def _factors(part: EdgeKernel, key: str, signs: Signs | None) -> Tensor:
    """Factor of every row of a last layer, ``[C_out, C_in, J]`` flat."""
    paths = part.groups[key]
    found = []
    for path in paths:
        l1, J, l = part.paths.degrees(path)
        if signs is not None and (J, l1, l) not in signs:
            raise ConfigError(f"q_signs has no row for J={J}, l_in={l1}, l_out={l}")
        sign = 1.0 if signs is None else signs[J, l1, l]
        found.append(sign * _factor(J, l))
    rows = part.paths.first[paths[0].first].mul * part.paths.out[paths[0].out].mul
    return torch.tensor(found, dtype=torch.float64).repeat(rows)


def _fold_kernel(
    weights: OriginalWeights, part: EdgeKernel, place: str, signs: Signs
) -> dict[str, Tensor]:
    state = {}
    for key in part.groups:
        factors = _factors(part, key, signs)
        for ours, theirs in LAYERS.items():
            for name in ("weight", "bias"):
                value = weights.take(f"{place}.{RADIAL.format(key)}.{theirs}.{name}")
                if ours == "6":
                    rows = factors.to(value)
                    value = value * (rows.unsqueeze(1) if name == "weight" else rows)
                state[f"radial.{key}.{ours}.{name}"] = value
    return state


def _unfold_kernel(part: EdgeKernel, place: str) -> dict[str, Tensor]:
    result, own = {}, part.state_dict()
    for key in part.groups:
        factors = _factors(part, key, None)
        for ours, theirs in LAYERS.items():
            for name in ("weight", "bias"):
                value = own[f"radial.{key}.{ours}.{name}"]
                if ours == "6":
                    rows = factors.to(value)
                    value = value / (rows.unsqueeze(1) if name == "weight" else rows)
                result[f"{place}.{RADIAL.format(key)}.{theirs}.{name}"] = value
    return result


def _turned(value: Tensor, kind: str, *, back: bool = False) -> Tensor:
    """Theirs as ours, or back."""
    if kind == "same":
        return value
    if kind == "self":  # [1, out, in]
        return value.T.unsqueeze(0) if back else value[0].T
    return value.T


Part = tuple[str, str, str, Any]


def _parts(network: Any) -> Iterator[Part]:
    """Our name, theirs, how they differ and the module, of everything but biases."""
    trunk: SE3Trunk = network.trunk
    attention = hasattr(trunk.convs[0], "values")
    block = "Gblock" if attention else "block0"
    layers: Any
    norm: Any
    for s, (conv, norm) in enumerate(zip(trunk.convs, trunk.norms, strict=True)):
        yield from _layer(f"trunk.convs.{s}", f"{block}.{2 * s}", conv)
        if hasattr(norm, "networks"):
            place = f"{block}.{2 * s + 1}.transform"
            for ir, layers in norm.networks.items():
                for k, theirs in ((0, "0.bn"), (2, "2")):
                    for name in ("weight", "bias") if k < len(layers) else ():
                        yield (
                            f"trunk.norms.{s}.networks.{ir}.{k}.{name}",
                            f"{place}.{ir}.{theirs}.{name}",
                            "same",
                            layers,
                        )
    last = f"{block}.{2 * len(trunk.convs)}"
    yield from _layer("trunk.last", last, trunk.last)
    if hasattr(network, "head"):
        end = "FCblock" if attention else "block2"
        for k in (0, 2):
            for name in ("weight", "bias"):
                ours = f"head.mlp.{k}.{name}"
                yield ours, f"{end}.{k}.{name}", "same", network.head


def _layer(ours: str, theirs: str, conv: Any) -> Iterator[Part]:
    if hasattr(conv, "kernel"):
        yield f"{ours}.kernel", theirs, "kernel", conv.kernel
        for ir in conv.own.weights:
            name = f"{ours}.own.weights.{ir}"
            yield name, f"{theirs}.kernel_self.{ir}", "self", conv.own
        return
    yield f"{ours}.values", f"{theirs}.GMAB.v", "kernel", conv.values
    yield f"{ours}.keys", f"{theirs}.GMAB.k", "kernel", conv.keys
    for ir in conv.queries.weights:
        name = f"{ours}.queries.weights.{ir}"
        yield name, f"{theirs}.GMAB.q.transform.{ir}", "matrix", conv.queries
    place = f"{theirs}.project.transform"
    if hasattr(conv.project, "weights"):
        for ir in conv.project.weights:
            name = f"{ours}.project.weights.{ir}"
            yield name, f"{place}.{ir}", "matrix", conv.project
        return
    for ir in conv.project.networks:
        for k in (0, 2):
            for name in ("weight", "bias"):
                yield (
                    f"{ours}.project.networks.{ir}.{k}.{name}",
                    f"{place}.{ir}.{k}.{name}",
                    "same",
                    conv.project,
                )


def _biases(network: Any) -> Iterator[tuple[str, Any, str]]:
    """Our name, irreps and their names of the biases of norms."""
    for s, norm in enumerate(network.trunk.norms):
        if not hasattr(norm, "networks"):
            place = f"Gblock.{2 * s + 1}.bias.{{}}"
            yield f"trunk.norms.{s}.bias", norm.irreps_in, place
