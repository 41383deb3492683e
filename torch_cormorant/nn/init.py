r"""How weights start: as published, as in the supplement, or by fan-in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError

VERTEX_INITS = ("fan_in", "published", "supplement")


def writable(module: nn.Module, name: str) -> nn.Parameter:
    """A weight of a module that is to be changed in place.

    Raises:
        ConfigError: It is computed from others (pruned, parametrised, normed): what is
            written into it would be lost.
    """
    weight = module._parameters.get(name)  # noqa: SLF001
    if weight is None:
        msg = (
            f"{name} of {type(module).__name__} is pruned or parametrised, so it "
            "cannot be set; do this first, or take that off (prune.remove, "
            "parametrize.remove_parametrizations)"
        )
        raise ConfigError(msg)
    return weight


@torch.no_grad()
def init_vertex(weight: Tensor, kind: str, gain: float) -> None:
    """Start a vertex matrix ``[P, out, in]`` as the published code or supplement do.

    ``published``: U(-1, 1) * gain / max(in, out); ``supplement``: U(-1, 1) * gain /
    (in + out). (``fan_in`` needs to know the blocks and is done by the layer.)
    """
    out, count = weight.shape[-2:]
    scale = {"published": max(out, count), "supplement": out + count}.get(kind)
    if scale is None:
        msg = f"init must be one of {VERTEX_INITS}, got {kind!r}"
        raise ConfigError(msg)
    weight.uniform_(-1.0, 1.0).mul_(gain / scale)


@torch.no_grad()
def init_edge(weight: Tensor, kind: str, gain: float) -> None:
    """Start an edge matrix ``[P, out, in]``.

    ``published``: N(0, 1) / max(in, out), whatever the gain; ``supplement``:
    U(-1, 1) * gain / (in + out).
    """
    out, count = weight.shape[-2:]
    if kind == "published":
        weight.normal_().mul_(1.0 / max(out, count))
    else:
        init_vertex(weight, kind, gain)


@torch.no_grad()
def init_block(block: Tensor, variance: float) -> None:
    """Fill a block ``[P, out, in]`` so that it adds a given variance to its output.

    Inputs are taken as independent with unit variance over both planes together.
    """
    planes, _, count = block.shape
    block.normal_().mul_((variance / (max(count, 1) * planes)) ** 0.5)
