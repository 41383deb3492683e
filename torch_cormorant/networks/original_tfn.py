r"""Tensor field networks made of e3nn's layers: names, settings, factors.

Such a network has for level s a ``FullyConnectedNet`` ``{s}.fc`` of radial weights, a
depthwise ``TensorProduct`` with ``component`` harmonics, a ``Linear`` ``{s}.lin`` of
its paths sorted by degree, and a ``NormActivation`` ``{s}.act``; distances enter by
``soft_one_hot_linspace(..., basis="gaussian", cutoff=True)`` times the root of their
number.

=============================  ================================================
theirs                         becomes
=============================  ================================================
``fc.layer{k}.weight``         times :math:`1/\sqrt{in}`, all but the first
                               times c of SiLU, transposed; the first without
                               the root (the basis has it)
columns of a path of the last  times :math:`s \sqrt{2 l_2 + 1}`,
                               :math:`s = (-1)^{k(k+1)/2}`,
                               :math:`k = l_1 + l_2 - l`
``lin.weight``                 times :math:`1/\sqrt{in}` of each irrep
=============================  ================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks.original import Original, OriginalWeights, check_head
from torch_cormorant.nn.activations import moment_factor
from torch_cormorant.nn.e3nn_bases import E3NNBasis

if TYPE_CHECKING:
    from torch_cormorant.conv import TensorFieldConv

__all__ = ["OriginalTFN"]

NEEDED = ("hidden", "sh", "cutoff")
IN_WEIGHTS = ("num_layers", "num_basis", "hidden_radial", "num_parameters")


class OriginalTFN(Original):
    """A tensor field network of e3nn's layers.

    A ``state_dict`` does not hold the irreps (``hidden``, ``sh``), the ``cutoff``, the
    average number of ``neighbours`` (1 if it is not given) nor ``c_silu``, e3nn's
    constant of SiLU. Nothing ends smoothly at the cutoff.
    """

    package = "e3nn"
    anchor = "0.fc.layer0.weight"
    settings = (*NEEDED, "neighbours", "c_silu", *IN_WEIGHTS, "instructions")
    ignored = r".*\.tp\..*|.*\.output_mask"

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """From the settings and, where they show there, the weights."""
        missing = [name for name in NEEDED if name not in config]
        if missing:
            raise ConfigError(
                f"config needs {missing[0]!r}, the weights do not hold it"
            )
        hidden, harmonics = Irreps(config["hidden"]), Irreps(config["sh"])
        top = harmonics.lmax
        if harmonics == Irreps([(1, (l, 1)) for l in range(top + 1)]):
            if any(ir.p < 0 for _, ir in hidden):
                msg = f"hidden is {hidden}: even harmonics {harmonics} make even ones"
                raise ConfigError(msg)
            hidden = Irreps([(mul, (ir.l, 0)) for mul, ir in hidden])
        elif harmonics != Irreps.harmonics(top):
            msg = (
                f"sh must be the harmonics of all degrees to a largest, got {harmonics}"
            )
            raise ConfigError(msg)
        levels = weights.count("{}.fc.layer0.weight")
        depth = weights.count("0.fc.layer{}.weight")
        return {
            "cutoff": float(config["cutoff"]),
            "irreps": str(hidden),
            "num_levels": levels,
            "lmax_sh": top,
            "basis": E3NNBasis.kind,
            "num_basis": weights.shape("0.fc.layer0.weight")[0],
            "radial": [
                weights.shape(f"0.fc.layer{k}.weight")[1] for k in range(depth - 1)
            ],
            "envelope": None,
            "avg_num_neighbors": float(config.get("neighbours", 1.0)),
            "num_targets": weights.shape(f"{levels - 1}.lin.bias")[0],
        }

    def fold(
        self, weights: OriginalWeights, network: Any, config: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Our weights, with the factors of the table above."""
        constant = float(config.get("c_silu", moment_factor("silu", "e3nn")))
        state = {}
        for ours, theirs, factor in _radials(network, constant):
            shape = network.get_parameter(ours).shape[::-1]
            value = weights.take(theirs, *shape)
            state[ours] = (value * factor.to(value)).T
        for s, conv in enumerate(network.convs):
            flat = weights.take(f"{s}.lin.weight")
            parts = _split(flat, conv, f"{s}.lin.weight")
            for ir, part in parts.items():
                state[f"convs.{s}.linear.weights.{ir}"] = part * len(part) ** -0.5
            state[f"convs.{s}.linear.bias"] = weights.take(f"{s}.lin.bias")
        for s in range(len(network.acts)):
            state[f"acts.{s}.bias"] = weights.take(f"{s}.act.biases")
        return state

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`, for e3nn's own constant of SiLU."""
        wanted = {"layers": False, "scale": False, "shift": False, "constant": False}
        check_head(network, self.package, act="silu", **wanted)
        basis = network.basis
        shape = getattr(basis, "shape", None), getattr(basis, "ends", None)
        if network.envelope is not None or shape != ("gaussian", False):
            raise self.refusal("an envelope, or another basis than its Gaussians")
        state, result = network.state_dict(), {}
        constant = moment_factor("silu", "e3nn")
        for ours, theirs, factor in _radials(network, constant):
            result[theirs] = state[ours].T / factor.to(state[ours])
        for s, conv in enumerate(network.convs):
            held = conv.linear.weights
            scaled = {ir: weight * len(weight) ** 0.5 for ir, weight in held.items()}
            result[f"{s}.lin.weight"] = _joined(scaled, conv)
            result[f"{s}.lin.bias"] = state[f"convs.{s}.linear.bias"]
        for s in range(len(network.acts)):
            result[f"{s}.act.biases"] = state[f"acts.{s}.bias"]
        return result


def _radials(network: Any, constant: float) -> Iterator[tuple[str, str, Tensor]]:
    """Our name, theirs and factor of every matrix of the radial networks."""
    for s, (conv, radial) in enumerate(
        zip(network.convs, network.radials, strict=True)
    ):
        last = len(radial.linears) - 1
        for k, linear in enumerate(radial.linears):
            size = constant * linear.in_features**-0.5 if k else 1.0
            factor = torch.tensor([size], dtype=torch.float64)
            if k == last:
                factor = factor * conv.path_factors(signs=True)
            yield f"radials.{s}.{2 * k}.weight", f"{s}.fc.layer{k}.weight", factor


def _blocks(conv: TensorFieldConv) -> Iterator[tuple[str, int, int]]:
    """Irrep, copies in and copies out of their blocks: paths sorted by degree."""
    paths = conv.paths
    for path in sorted(paths.paths, key=lambda path: paths.out[path.out].ir.l):
        ir = paths.out[path.out].ir
        yield str(ir), paths.first[path.first].mul, conv.irreps_out.count(ir)


def _split(flat: Tensor, conv: TensorFieldConv, name: str) -> dict[str, Tensor]:
    """One matrix for each irrep out of their flat row."""
    blocks = [*_blocks(conv)]
    sizes = [inputs * outputs for _, inputs, outputs in blocks]
    if flat.numel() != sum(sizes):
        msg = (
            f"{name} has {flat.numel()} weights, the network needs {sum(sizes)}; "
            "hidden or sh may be others"
        )
        raise WeightsError(msg)
    found: dict[str, list[Tensor]] = {}
    for (ir, inputs, outputs), part in zip(blocks, flat.split(sizes), strict=True):
        found.setdefault(ir, []).append(part.view(inputs, outputs))
    return {ir: torch.cat(parts) for ir, parts in found.items()}


def _joined(weights: Mapping[str, Tensor], conv: TensorFieldConv) -> Tensor:
    """Their flat row: the inverse of :func:`_split`."""
    left, parts = dict(weights), []
    for ir, inputs, _ in _blocks(conv):
        parts.append(left[ir][:inputs].flatten())
        left[ir] = left[ir][inputs:]
    return torch.cat(parts)
