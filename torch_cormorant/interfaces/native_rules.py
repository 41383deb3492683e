"""Which potentials the native evaluator computes, and why not the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.interfaces.native_block import MAX_LMAX, UNIT
from torch_cormorant.models import Cormorant, Potential
from torch_cormorant.models.copies import check_weights_are_plain
from torch_cormorant.networks import CormorantNetwork
from torch_cormorant.nn.cutoff import SoftCutoff
from torch_cormorant.nn.heads.scalar import ExtensiveHead
from torch_cormorant.nn.inputs import LinearInput
from torch_cormorant.nn.norm import Gate, SO3Norm
from torch_cormorant.nn.radial import Bessel, Gaussian
from torch_cormorant.nn.zbl import ZBL
from torch_cormorant.ops import cpu_kernel

__all__ = ["native_problem"]

LIMITS = {"num_levels": 8, "channels": 1024, "hidden": 4096, "species": 128}
"""Largest sizes; csrc/native/parameters.h has the same."""
METHODS = (
    "forward",
    "run_levels",
    "read_out",
    "atomwise",
    "evaluate",
    "energy_of",
    "pair_energies",
)
"""What a class of a user's own may compute in another way."""


def native_problem(model: Any) -> str:
    """Say why the native evaluator cannot compute a model; empty when it can.

    Args:
        model: Any model.

    Returns:
        What is not covered, by the name of the option.

    Example:
        >>> from torch_cormorant import Cormorant
        >>> native_problem(Cormorant.potential([1], num_levels=9, channels=4))
        'num_levels is 9, at most 8 are covered'
        >>> native_problem(Cormorant([1], channels=4, num_levels=1))
        "input is MPNNInput, 'linear' is covered"
    """
    missing = cpu_kernel.problem()
    if missing:
        return f"the CPU kernel is {missing}; {cpu_kernel.remedy()}"
    network = getattr(model, "network", model)
    if not isinstance(model, (Cormorant, Potential)):
        return f"model is {type(model).__name__}, a Cormorant potential is covered"
    if not isinstance(network, CormorantNetwork):
        return f"network is {type(network).__name__}, CormorantNetwork is covered"
    pair = getattr(model, "pair", None)
    if pair is not None and type(pair) is not ZBL:
        return f"pair is {type(pair).__name__}, ZBL is covered"
    return next(_problems(model, network), "")


def _problems(whole: nn.Module, model: CormorantNetwork) -> Iterator[str]:
    yield from _of_class(whole)
    yield from _of_class(model)
    yield from _of_unit(cast("Any", whole).info.units[0])
    yield from _of_sizes(model)
    yield from _of_ends(model)
    try:
        convs = model.conv_layers()
        check_weights_are_plain(whole)
    except ConfigError as error:
        yield str(error)
        return
    yield from _of_weights(model)
    yield from _of_rows("norm", list(model.norms), (SO3Norm, nn.Identity), "eps")
    yield from _of_rows("gate", list(model.gates), (Gate, nn.Identity))
    yield from _of_additions(model)
    nets = [conv.edge_network for conv in convs]
    radials: list[nn.Module] = [net.radial for net in nets]
    yield from _of_rows("radial", radials, (Bessel, Gaussian), "num_basis", "cutoff")
    cutoffs: list[nn.Module] = [net.cutoff for net in nets]
    yield from _of_masks(cutoffs)
    for s, (conv, net) in enumerate(zip(convs, nets, strict=True)):
        if net.envelope_cutoff not in (None, model.cutoff):
            yield f"the envelope of level {s} ends elsewhere than the cutoff"
        if (net.envelope_cutoff is None) != (nets[0].envelope_cutoff is None):
            yield "envelope differs between levels"
        if conv.paths != convs[0].paths:
            yield "paths differ between levels"
        if conv.edge_dim:
            yield "edge_dim is not 0"
        if conv.explain:
            yield f"level {s} is being explained"
        if conv.harmonics != "unit":
            yield f"harmonics is {conv.harmonics!r}, 'unit' is covered"
    yield from _of_hooks(whole)


def _of_masks(masks: list[nn.Module]) -> Iterator[str]:
    found = {type(mask).__name__ for mask in masks if type(mask) is not SoftCutoff}
    if found:
        yield f"cutoff_type is {min(found)}, SoftCutoff is covered"
        return
    yield from _of_rows("cutoff", masks, None, "soft", "gaussian", "hard_radius")
    if any("hard" in cast("SoftCutoff", mask).cutoff_type for mask in masks):
        yield "cutoff_type holds 'hard', smooth masks are covered"


def _of_unit(unit: str) -> Iterator[str]:
    if len(unit.encode()) > UNIT:
        yield f"unit is {unit!r}, at most {UNIT} bytes are covered"


def _of_class(model: nn.Module) -> Iterator[str]:
    for name in METHODS:
        module = getattr(getattr(type(model), name, None), "__module__", "")
        if module and not module.startswith("torch_cormorant."):
            yield f"{type(model).__name__} has a {name} of its own"


def _of_weights(model: CormorantNetwork) -> Iterator[str]:
    for path, weight in model.named_parameters():
        if weight.dtype not in (torch.float32, torch.float64):
            yield f"{path} is {weight.dtype}, float32 and float64 are covered"
        elif not bool(weight.isfinite().all()):
            yield f"{path} is not finite"


def _of_sizes(model: CormorantNetwork) -> Iterator[str]:
    if model.cutoff is None:
        yield "cutoff is None (all pairs), a cutoff is covered"
    top = max(*model.lmax, *model.lmax_sh)
    if top > MAX_LMAX:
        yield f"lmax is {top}, at most {MAX_LMAX} is covered"
    sizes = {
        "num_levels": model.num_levels,
        "channels": max(model.channels),
        "species": len(model.features.known),
    }
    for name, size in sizes.items():
        if size > LIMITS[name]:
            yield f"{name} is {size}, at most {LIMITS[name]} are covered"


def _of_ends(model: CormorantNetwork) -> Iterator[str]:
    """Problems of the first and the last layer."""
    if type(model.input) is not LinearInput:
        yield f"input is {type(model.input).__name__}, 'linear' is covered"
    head: Any = model.head
    if type(head) is not ExtensiveHead:
        yield f"head is {head.kind!r}, 'extensive' is covered"
        return
    if model.num_targets != 1:
        yield f"num_targets is {model.num_targets}, one energy is covered"
    first: Any = head.mlp[0]
    act = head.mlp[1]
    if type(act) is not nn.SiLU:
        yield f"activation is {type(act).__name__}, 'silu' is covered"
    if first.out_features > LIMITS["hidden"]:
        yield f"hidden is {first.out_features}, at most {LIMITS['hidden']} is covered"


def _of_rows(
    name: str, parts: Sequence[nn.Module], kinds: tuple[type, ...] | None, *equal: str
) -> Iterator[str]:
    """Problems of one part of every level: its class, and what must not differ."""
    for part in parts:
        if kinds is not None and type(part) not in kinds:
            known = " and ".join(kind.__name__ for kind in kinds)
            yield f"{name} is {type(part).__name__}, {known} are covered"
        for value in equal:
            if vars(part).get(value) != vars(parts[0]).get(value):
                yield f"{value} of {name} differs between levels"
        if type(part) is not type(parts[0]):
            yield f"{name} differs between levels"


def _of_additions(model: CormorantNetwork) -> Iterator[str]:
    """What a level adds to layer, norm and gate."""
    if model.residual:
        yield "residual is True, levels without it are covered"
    if len(model.scales):
        yield "species_scale is True, levels without it are covered"


def _of_hooks(model: nn.Module) -> Iterator[str]:
    """Hooks may change what modules return."""
    for path, module in model.named_modules():
        kept: Any = vars(module)
        if kept["_forward_hooks"] or kept["_forward_pre_hooks"]:
            yield f"{path or 'the model'} has forward hooks"
