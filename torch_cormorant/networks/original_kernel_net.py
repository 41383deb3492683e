r"""The networks of the e3nn thesis: names and settings.

``original_kernel`` has the convolutions. A gate is 1.84623 times a sigmoid there, ours
has the exact constant: the rows of gated degrees take the ratio. Linear layers behind
the convolutions divide by the root of their width. All hidden ones are one module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks.original import Original, OriginalWeights, check_head
from torch_cormorant.networks.original_kernel import Blocks, kernel_scales
from torch_cormorant.nn.activations import moment_factor
from torch_cormorant.nn.bases import CosineBasis, CutBesselBasis, GaussianBasis

if TYPE_CHECKING:
    from torch_cormorant.nn.gated import GatedBlock

__all__ = ["OriginalKernelNet"]

SIGMOID = 1.84623
EMBEDDING = "net.layers.0.weight"
NEEDED = ("radial", "rmax", "l0", "l1", "l2", "avg")
CONSTANTS = ("ssp_factor", "ssp_shift", "sp_factor", "sigmoid_factor", "beta")
IN_WEIGHTS = (
    *("layers", "nb", "h", "L", "embed", "rs", "num_parameters"),
    *("weight_seed", "param_names", "param_shapes"),
)


class OriginalKernelNet(Original):
    """``Network`` or ``ResNetwork`` with an output network, equivariant-benchmark.

    A ``state_dict`` holds neither the irreps (``l0``, ``l1``, ``l2``), the ``radial``
    functions and their largest centre ``rmax``, ``res`` (true), the average number of
    atoms ``avg``, ``beta`` (5), nor the constants of the softplus functions
    (``ssp_factor``, ``sp_factor``), which that code draws by chance at every start. Nor
    does it hold ``mean``, ``std`` and ``atomref``. With an MLP ``mlp`` says (l0, l1,
    convolutions, width, linear layers).
    """

    package = "equivariant-benchmark"
    anchor = "net.layers.1.0.R.f.weights.0"
    settings = (
        *NEEDED,
        "res",
        "mlp",
        "mean",
        "std",
        "atomref",
        *CONSTANTS,
        *IN_WEIGHTS,
    )

    def open(
        self, weights: Mapping[str, Any], config: Mapping[str, Any]
    ) -> OriginalWeights:
        """Inside of a model of SchNetPack the two parts have other names."""
        renamed = {}
        for name, value in weights.items():
            own = re.sub(r"(^|\.)representation\.(?=layers\.)", r"\1net.", name)
            own = re.sub(r"(^|\.)output_modules\.\d+\.out_net\.", r"\1out.", own)
            renamed[own] = value
        return super().open(renamed, config)

    def prefixes(self, weights: Any) -> list[str]:
        """Those of either names."""
        inside = self.anchor.replace("net.", "representation.", 1)
        names = [
            f"{name.removesuffix(inside)}{self.anchor}"
            if f".{name}".endswith(f".{inside}")
            else name
            for name in weights
        ]
        return super().prefixes(names)

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """From the settings and, where they show there, the weights."""
        missing = [name for name in NEEDED if name not in config]
        if missing:
            msg = f"config needs {missing[0]!r}, the weights do not hold it"
            raise ConfigError(msg)
        rows, width = weights.shape(EMBEDDING)
        place = "net.layers.1.0.R.f.weights.{}"
        depth = weights.count(place)
        num_basis = weights.shape(place.format(0))[1]
        radius = float(config["rmax"])
        scaled = {name: name in config for name in ("std", "mean", "atomref")}
        head: dict[str, Any] = {
            "kind": "atomwise",
            "layers": None,
            "act": "relu",
            "scale": "shared" if scaled["std"] else None,
            "constant": scaled["mean"],
            "shift": "species" if scaled["atomref"] else None,
        }
        found = {
            "species": list(range(1, rows)),
            "irreps": _irreps(*(config[name] for name in ("l0", "l1", "l2"))),
            "embedding": width,
            "num_levels": self._levels(weights),
            "residual": bool(config.get("res", True)),
            "basis": _basis(str(config["radial"]), num_basis, radius),
            "num_basis": num_basis,
            "radius": radius,
            "radial": [weights.shape(place.format(k))[0] for k in range(depth - 1)],
            "beta": _beta(config),
            "softplus_factor": config.get("sp_factor"),
            "ssp_factor": config.get("ssp_factor"),
            "avg_num_atoms": float(config["avg"]),
            "head": head,
        }
        if "out.mlp.0.weight" not in weights:
            rows, _ = weights.shape(f"out.layers.0.0.R.f.weights.{depth - 1}")
            count = rows // Irreps(found["irreps"]).num_irreps
            return {**found, "out_channels": count, "num_targets": count}
        if "mlp" not in config:
            raise ConfigError(
                "config needs 'mlp': [l0, l1, convolutions, width, layers]"
            )
        l0, l1, convs, wide, layers = (int(value) for value in config["mlp"])
        head["layers"] = [wide] * (layers - 1)
        return {
            **found,
            "out_irreps": _irreps(l0, l1),
            "out_levels": convs,
            "out_channels": wide,
            "out_layers": layers,
            "num_targets": weights.shape(f"out.mlp.{2 * (layers - 1)}.weight")[0],
        }

    def _levels(self, weights: OriginalWeights) -> int:
        found = 0
        while f"net.layers.{found + 1}.0.R.f.weights.0" in weights:
            found += 1
        return found

    def fold(
        self, weights: OriginalWeights, network: Any, config: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Our weights, with the factors of the tables."""
        state = {"embedding.weight": weights.take(EMBEDDING)}
        sigmoid = float(config.get("sigmoid_factor", SIGMOID))
        for ours, theirs, order, factor in _matrices(network, sigmoid):
            shape = network.get_parameter(ours).shape
            value = weights.take(theirs, *shape)
            value = value if order is None else value[order.to(value.device)]
            state[ours] = value * factor.to(value)
        state |= _gaussians(network, state["embedding.weight"])
        for k, layer in enumerate(_linears(network)):
            first = f"out.mlp.{0 if k < len(_linears(network)) - 1 else 2 * k}"
            size = layer.in_features**-0.5
            state[f"head.mlp.{2 * k}.weight"] = weights.take(f"{first}.weight") * size
            state[f"head.mlp.{2 * k}.bias"] = weights.take(f"{first}.bias")
        for name in [name for name in weights.left if name.startswith("out.mlp.")]:
            weights.take(name)  # the same module under its other names
        for ours, theirs in (
            ("scale", "std"),
            ("constant", "mean"),
            ("shift", "atomref"),
        ):
            if theirs in config:
                value = torch.tensor(config[theirs], dtype=torch.float64).reshape(-1, 1)
                state[f"head.{ours}"] = value.to(state["embedding.weight"])
        return state

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`; constants and mean are no weights there."""
        layers = _linears(network)
        check_head(
            network, self.package, act="relu", layers=bool(layers), bias=bool(layers)
        )
        bases = (CosineBasis, CutBesselBasis, GaussianBasis)
        basis = network.convs[0].radial.basis
        if network.cutoff is not None or not isinstance(basis, bases):
            raise self.refusal("a cutoff, or another basis")
        state = network.state_dict()
        result = {EMBEDDING: state["embedding.weight"]}
        for ours, theirs, order, factor in _matrices(network, SIGMOID):
            value = state[ours] / factor.to(state[ours])
            if order is not None:
                value = value[order.argsort().to(value.device)]
            result[theirs] = value
        for k, layer in enumerate(layers):
            last = k == len(layers) - 1
            weight, bias = layer.weight * layer.in_features**0.5, layer.bias
            name = f"out.mlp.{2 * k if last else 0}"
            if k and not last and not torch.equal(weight, result[f"{name}.weight"]):
                raise self.refusal("hidden layers of an MLP that differ")
            result |= {f"{name}.weight": weight, f"{name}.bias": bias}
        return result


def _linears(network: Any) -> list[Any]:
    mlp = network.head.mlp
    return [] if mlp is None else mlp.linears


def _irreps(*muls: int) -> str:
    """Degrees 0, 1, 2 with these copies."""
    return " + ".join(f"{int(mul)}x{l}" for l, mul in enumerate(muls) if mul)


def _beta(config: Mapping[str, Any]) -> float:
    """Of the settings, or from the shift by log(2) / beta."""
    shift = config.get("ssp_shift")
    beta = float(config.get("beta", 5.0 if shift is None else math.log(2) / shift))
    return round(beta, 12)


def _basis(kind: str, num_basis: int, radius: float) -> dict[str, Any]:
    """Our basis of a name there."""
    width = (radius / (2 * num_basis)) ** 0.5
    known: dict[str, dict[str, Any]] = {
        "cosine": {"kind": CosineBasis.kind},
        "bessel": {"kind": CutBesselBasis.kind},
        "gaussian": {"kind": GaussianBasis.kind, "width": width},
    }
    if kind not in known:
        raise ConfigError(f"radial must be one of {tuple(known)}, got {kind!r}")
    return known[kind]


def _gaussians(network: Any, like: Tensor) -> dict[str, Tensor]:
    """Centres and widths, which we keep as weights, in full precision."""
    found: dict[str, Tensor] = {}
    for s, conv in enumerate(network.convs):
        basis = conv.radial.basis
        if isinstance(basis, GaussianBasis):
            count = torch.arange(basis.num_basis, dtype=torch.float64)
            centres = count * (basis.cutoff / (basis.num_basis - 1))
            width = torch.full_like(centres, float(basis.width or 0))
            place = f"convs.{s}.radial.basis"
            found |= {f"{place}.offsets": centres.to(like)}
            found |= {f"{place}.widths": width.to(like)}
    return found


def _blocks(gate: GatedBlock) -> Blocks:
    """Their blocks of what a gated block reads: features, then gates."""
    place = [ir for _, ir in gate.irreps_in].index
    blocks = [(place(ir), 0, mul) for mul, ir in gate.irreps_out]
    gates = sum(mul for mul, ir in gate.irreps_out if ir.l)
    if gates:
        blocks.append((place(gate.gate), gate.first_gate, gates))
    return blocks


def _matrices(
    network: Any, sigmoid: float
) -> Iterator[tuple[str, str, Tensor | None, Tensor]]:
    """Name of ours, theirs, order and factor of rows of all radial matrices."""
    ratio = sigmoid / moment_factor("sigmoid")
    for s, conv in enumerate(network.convs):
        out = s - network.num_levels
        place = f"net.layers.{s + 1}" if out < 0 else f"out.layers.{out}"
        gated = s < len(network.gates)
        every = (0, 0, conv.irreps_out[0].mul)
        blocks = _blocks(network.gates[s]) if gated else [every]
        for ours, theirs, order, factor in kernel_scales(conv, blocks):
            rows = factor
            if order is not None and gated:
                sizes = torch.tensor(conv.paths.sizes)
                ends = [conv.paths.degrees(path)[2] > 0 for path in conv.paths.paths]
                turned = torch.tensor(ends).repeat_interleave(sizes).unsqueeze(1)
                rows = torch.where(turned, factor * ratio, factor)
            yield f"convs.{s}.{ours}", f"{place}.0.R.f.{theirs}", order, rows
