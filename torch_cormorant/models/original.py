"""Weights of the original code, in and out.

The original works in the complex Condon-Shortley basis. Real CG tables differ from
complex ones by one phase for each path, 1 for even l1 + l2 + l and i for odd; the
phase goes into the weight columns of the path. Everything else is the same number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.networks import CormorantNetwork
from torch_cormorant.nn.cutoff import SoftCutoff
from torch_cormorant.nn.heads import LinearHead, PublishedHead
from torch_cormorant.nn.inputs import LinearInput, MPNNInput
from torch_cormorant.nn.mixing import DegreeWeights
from torch_cormorant.ops import PathTable

Array = np.ndarray[Any, Any]

DEFAULTS: dict[str, Any] = {
    "max_sh": None,
    "num_channels": [16] * 5,
    "num_cg_levels": 4,
    "charge_power": 2,
    "charge_scale": None,
    "basis_set": [3, 3],
    "cutoff_type": ["learn"],
    "hard_cut_rad": 1.73,
    "num_mpnn_layers": 1,
    "sph_normalize": False,
    "gaussian_mask": False,
}
BY_KIND: dict[str, dict[str, Any]] = {
    "qm9": {"maxl": [3, 3, 3, 0], "species": [1, 6, 7, 8, 9]},
    "md17": {"maxl": [3, 3, 3, 3], "species": [1, 6, 8]},
}
FIXED = re.compile(r"mpnn\d+_soft_cut_(rad|width)|num_parameters")
"""Entries of the original that are no weights."""
STATE_DICT = (
    (r"rad(\d+)_(scales|phases)", r"rad_funcs.rad_funcs.\1.\2"),
    (
        r"edge(\d+)_weight_l(\d+)",
        r"cormorant_cg.edge_levels.\1.cat_mix.mix_reps.weights.\2",
    ),
    (
        r"atom(\d+)_weight_l(\d+)",
        r"cormorant_cg.atom_levels.\1.cat_mix.mix_reps.weights.\2",
    ),
    (
        r"edge(\d+)_(soft_cut_rad|soft_cut_width)",
        r"cormorant_cg.edge_levels.\1.mask_layer.\2",
    ),
    (
        r"mpnn(\d+)_mlp_linear(\d+)_(weight|bias)",
        r"input_func_atom.mlps.\1.linear.\2.\3",
    ),
    (r"mpnn(\d+)_rad_(scales|phases)", r"input_func_atom.rad_filts.\1.\2"),
    (
        r"mpnn(\d+)_rad_linear_(weight|bias)",
        r"input_func_atom.rad_filts.\1.linear.0.\2",
    ),
    (r"input_linear_(weight|bias)", r"input_func_atom.lin.\1"),
    (
        r"out_(mlp1|mlp2)_linear(\d+)_(weight|bias)",
        r"output_layer_atom.\1.linear.\2.\3",
    ),
    (r"out_linear_(weight|bias)", r"output_layer_atom.lin.\1"),
)
"""Names of this file and names in a state_dict of the original, with their numbers."""


def read_config(config: Mapping[str, Any] | None, kind: str) -> dict[str, Any]:
    """Complete a configuration of the original with the published values."""
    known = {**DEFAULTS, **BY_KIND[kind]}
    given = {k: v for k, v in (config or {}).items() if k != "kind"}
    unknown = sorted(set(given) - set(known))
    if unknown:
        msg = f"unknown key {unknown[0]!r} in config; known are {sorted(known)}"
        raise ConfigError(msg)
    return {**known, **given}


def told_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a run of the original that decide its network."""
    names = set(DEFAULTS).union(*BY_KIND.values()) - {"species", "charge_scale"}
    return {name: value for name, value in arguments.items() if name in names}


def preset_arguments(config: dict[str, Any], kind: str) -> dict[str, Any]:
    """Arguments of our preset for a configuration of the original."""
    levels = int(config["num_cg_levels"])
    maxl = _levels(config["maxl"], levels)
    kinds = config["cutoff_type"]
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    hard = float(config["hard_cut_rad"])
    scale = config["charge_scale"]
    arguments = {
        "species": [int(s) for s in config["species"]],
        "channels": _levels(config["num_channels"], levels + 1),
        "num_levels": levels,
        "lmax": maxl,
        "lmax_sh": maxl
        if config["max_sh"] is None
        else _levels(config["max_sh"], levels),
        "charge_power": int(config["charge_power"]),
        "charge_scale": None if scale is None else float(scale),
        "basis_set": tuple(int(v) for v in config["basis_set"]),
        "cutoff_type": kinds,
        "cutoff": hard if "hard" in kinds else None,
        "harmonics": "unit" if config["sph_normalize"] else "solid",
        "gaussian_mask": bool(config["gaussian_mask"]),
    }
    if kind == "qm9":
        arguments["mpnn_cutoff"] = hard
        arguments["num_mpnn_layers"] = int(config["num_mpnn_layers"])
    return arguments


def _levels(value: Any, count: int) -> list[int]:
    return [int(value)] * count if np.ndim(value) == 0 else [int(v) for v in value]


# --------------------------------------------------------------------------- names


def as_parity_names(weights: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays under our names, complex where the original has (re, im)."""
    arrays: dict[str, Array] = {}
    for name, value in weights.items():
        if FIXED.fullmatch(name):
            continue
        array = (
            value.detach().cpu().numpy()
            if isinstance(value, Tensor)
            else np.asarray(value)
        )
        ours = _renamed(name) if "." in name else name
        if ours != name and ours.startswith(("rad", "edge")) and array.ndim == 4:
            array = array.reshape(-1)
        if "weight_l" in ours and not np.iscomplexobj(array):
            if array.ndim != 3 or array.shape[-1] != 2:
                msg = (
                    f"{name} must be complex [out, in] or real [out, in, 2], got "
                    f"{array.shape}"
                )
                raise WeightsError(msg)
            array = array[..., 0] + 1j * array[..., 1]
        arrays[ours] = array
    return arrays


def _renamed(name: str) -> str:
    for ours, theirs in STATE_DICT:
        pattern = re.sub(r"\\\d", r"([^.]+)", theirs.replace(".", r"\."))
        found = re.fullmatch(pattern, name)
        if found:
            return _filled(ours, found.groups())
    msg = f"{name!r} is no weight of the original networks"
    raise WeightsError(msg)


def _filled(pattern: str, parts: tuple[str, ...]) -> str:
    """A pattern with its groups replaced by what they matched."""
    for part in parts:
        pattern = re.sub(r"\([^)]*\)", part, pattern, count=1)
    return pattern


def as_state_dict_names(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """Tensors under the names and shapes of the original's state_dict."""
    result = {}
    for name, array in arrays.items():
        target = name
        for ours, theirs in STATE_DICT:
            if re.fullmatch(ours, name):
                target = re.sub(ours, theirs, name)
        value = array
        if np.iscomplexobj(array):
            value = np.stack([array.real, array.imag], axis=-1)
        elif name.startswith(("rad", "edge")):
            value = array.reshape(1, 1, 1, -1)
        result[target] = torch.from_numpy(np.ascontiguousarray(value))
    return result


# --------------------------------------------------------------------------- weights


def _check_parts(model: CormorantNetwork) -> None:
    """Refuse parts that the original does not have: their weights have no name there.

    Raises:
        ConfigError: Names the part.
    """
    known = isinstance(model.head, (LinearHead, PublishedHead))
    odd: list[nn.Module] = [] if known else [model.head]
    odd += [m for m in (*model.norms, *model.gates) if not isinstance(m, nn.Identity)]
    masks = [conv.edge_network.cutoff for conv in model.conv_layers()]
    odd += [mask for mask in masks if not isinstance(mask, SoftCutoff)]
    names = [type(part).__name__ for part in (*odd, *model.scales)]
    if names or model.residual:
        msg = (
            f"the original has no {(names or ['residual'])[0]}, so its weights have no "
            "name there; save_model keeps the whole network"
        )
        raise ConfigError(msg)


def _plain(model: CormorantNetwork) -> Iterator[tuple[str, Tensor]]:
    """Real parameters with their names."""
    _check_parts(model)
    for s, conv in enumerate(model.conv_layers()):
        net = conv.edge_network
        yield f"rad{s}_scales", net.radial.get_parameter("scales")
        yield f"rad{s}_phases", net.radial.get_parameter("phases")
        yield f"edge{s}_soft_cut_rad", net.cutoff.get_parameter("radius")
        yield f"edge{s}_soft_cut_width", net.cutoff.get_parameter("width")
    if isinstance(model.input, LinearInput):
        yield from _linear("input_linear", model.input.linear)
    if isinstance(model.input, MPNNInput):
        layers = zip(
            model.input.radials, model.input.filters, model.input.mlps, strict=True
        )
        for k, (radial, filters, mlp) in enumerate(layers):
            yield f"mpnn{k}_rad_scales", radial.get_parameter("scales")
            yield f"mpnn{k}_rad_phases", radial.get_parameter("phases")
            yield from _linear(f"mpnn{k}_rad_linear", filters)
            yield from _linear(f"mpnn{k}_mlp_linear0", mlp.get_submodule("0"))
            yield from _linear(f"mpnn{k}_mlp_linear1", mlp.get_submodule("2"))
    if isinstance(model.head, LinearHead):
        yield from _linear("out_linear", model.head.linear)
    if isinstance(model.head, PublishedHead):
        for name in ("mlp1", "mlp2"):
            mlp = model.head.get_submodule(name)
            yield from _linear(f"out_{name}_linear0", mlp.get_submodule("0"))
            yield from _linear(f"out_{name}_linear1", mlp.get_submodule("2"))


def _linear(name: str, linear: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}_weight", linear.get_parameter("weight")
    yield f"{name}_bias", linear.get_parameter("bias")


def _mixing(
    model: CormorantNetwork,
) -> Iterator[tuple[str, DegreeWeights, int, Array]]:
    """Complex matrices: name, module, degree, phase of every column."""
    for s, conv in enumerate(model.conv_layers()):
        for l in range(conv.lmax_sh + 1):
            weights = conv.edge_network.weights
            yield f"edge{s}_weight_l{l}", weights, l, np.ones(weights[l].shape[-1])
        vertex, channels = conv.vertex, conv.in_channels
        for l in range(conv.lmax + 1):
            identity = np.ones(channels if l <= conv.lmax_in else 0)
            phases = [
                _phases(vertex.sum_paths, l, channels),
                identity,
                _phases(vertex.square_paths, l, channels),
            ]
            yield f"atom{s}_weight_l{l}", vertex.weights, l, np.concatenate(phases)


def _phases(table: PathTable, l: int, channels: int) -> Array:
    """Phase i for the columns of odd paths, 1 for those of even ones."""
    odd = [sum(path) % 2 for path in table.paths if path[2] == l]
    return np.repeat(np.where(np.array(odd, dtype=bool), 1j, 1.0), channels)


@torch.no_grad()
def load_arrays(model: CormorantNetwork, arrays: Mapping[str, Array]) -> None:
    """Set all weights of a model from arrays; every array is used, none is missing."""
    left = dict(arrays)
    for name, parameter in _plain(model):
        value = _take(left, name, tuple(parameter.shape))
        parameter.copy_(torch.from_numpy(value.astype(np.float64)))
    for name, module, l, phase in _mixing(model):
        weight = module[l]
        value = _take(left, name, tuple(weight.shape[1:])) * phase
        planes = np.stack([value.real, value.imag])
        weight.copy_(torch.from_numpy(planes.astype(np.float64)))
    if left:
        msg = f"{min(left)!r} has no place in this network ({len(left)} such arrays)"
        raise WeightsError(msg)


def _take(left: dict[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    if name not in left:
        msg = f"weight {name!r} is missing; the configuration may be another one"
        raise WeightsError(msg)
    value = left.pop(name)
    if value.shape != shape:
        msg = f"weight {name!r} has shape {value.shape}, the network needs {shape}"
        raise WeightsError(msg)
    return value


@torch.no_grad()
def arrays_of(model: CormorantNetwork) -> dict[str, Array]:
    """All weights of a model, as the original orders them."""
    arrays = {name: value.cpu().numpy().copy() for name, value in _plain(model)}
    for name, module, l, phase in _mixing(model):
        real, imag = module[l].cpu().numpy()
        arrays[name] = ((real + 1j * imag) / phase).astype(
            np.complex64 if real.dtype == np.float32 else np.complex128
        )
    return arrays
