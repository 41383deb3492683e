"""Some of the properties of a model, the others left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError, nearest
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.models.tuning import axis_of_change

__all__ = ["with_targets"]

M = TypeVar("M", bound=nn.Module)

TOLERANCE = 1e-4
"""Largest difference of both models, of numbers of order one."""


def with_targets(model: M, targets: Sequence[str]) -> M:
    """The same model for some of its properties, for use or further training.

    All weights that these properties need are kept, and so are their units and
    references: it predicts what the whole model does.

    Args:
        model: Predictions of several properties, a :class:`.Predictor` or a
            :class:`~torch_cormorant.Cormorant`; it is left as it is.
        targets: Names out of ``model.info.targets``, in any order.

    Returns:
        A new model.

    Raises:
        ConfigError: There is no such property, one is named twice, or a head of the
            model does not let its outputs be told apart.

    Example:
        >>> from torch_cormorant.models import ModelInfo, Normalisation, Predictor
        >>> from torch_cormorant.networks import CormorantNetwork
        >>> heads = ["extensive", "published"]
        >>> network = CormorantNetwork([1, 8], head=heads, channels=4, num_levels=1)
        >>> units = Normalisation((0.0, 7.0), (1.0, 2.0))
        >>> both = Predictor(network, ModelInfo(("U0", "gap"), ("eV", "eV"), units))
        >>> with_targets(both, ["gap"]).info.targets
        ('gap',)
    """
    given: Any = model
    network = getattr(given, "network", given)
    columns = _columns(given.info.targets, network.head, targets)
    heads = _parts(network.head)
    groups = _groups(heads, columns)
    specs = _specs(network.config["head"], len(heads))
    chosen = [_spec(specs[part], rows, heads[part]) for part, rows in groups]
    made = network.again(head=chosen if len(chosen) > 1 else chosen[0], num_targets=1)
    _copy(network, made, groups)
    _compare(network, made, columns)
    result = made if network is given else type(given)(made)
    result.info = _selected(given.info, columns)
    found: M = result.train(given.training)
    return found


def _selected(info: ModelInfo, columns: Sequence[int]) -> ModelInfo:
    """Names, units and references of the outputs that stay."""
    old = info.normalisation
    return replace(
        info,
        targets=tuple(info.targets[k] for k in columns),
        units=tuple(info.units[k] for k in columns),
        normalisation=Normalisation(
            tuple(old.mean[k] for k in columns),
            tuple(old.std[k] for k in columns),
            {z: tuple(row[k] for k in columns) for z, row in old.atom_values.items()},
        ),
    )


def _columns(known: Sequence[str], head: Any, targets: Sequence[str]) -> list[int]:
    """Which outputs they are.

    Raises:
        ConfigError: They are none of the model's, or twice the same.
    """
    if tuple(head.shape) != (len(known),):
        raise ConfigError(
            f"targets: the model has {len(known)} of shape {tuple(head.shape)}; only "
            "single numbers are told apart"
        )
    for name in targets:
        if name not in known:
            raise ConfigError(
                f"targets: {name!r}{nearest(name, list(known))}; the model predicts "
                f"{', '.join(known)}"
            )
    if not targets or len(set(targets)) < len(targets):
        raise ConfigError(f"targets: {list(targets)}, expected different names")
    return [list(known).index(name) for name in targets]


def _parts(head: Any) -> list[Any]:
    return list(getattr(head, "heads", [head]))


def _groups(
    heads: Sequence[Any], columns: Sequence[int]
) -> list[tuple[int, list[int]]]:
    """Outputs that stay together: a head, and rows of it that rise."""
    places = [
        (part, row)
        for part, head in enumerate(heads)
        for row in range(torch.Size(head.shape).numel())
    ]
    groups: list[tuple[int, list[int]]] = []
    for part, row in (places[k] for k in columns):
        if groups and groups[-1][0] == part and groups[-1][1][-1] < row:
            groups[-1][1].append(row)
        else:
            groups.append((part, [row]))
    return groups


def _specs(head: Any, count: int) -> list[Any]:
    """What each head was made of."""
    several = isinstance(head, Sequence) and not isinstance(head, str)
    return list(head) if several else [head] * count


def _spec(spec: Any, rows: Sequence[int], head: Any) -> dict[str, Any]:
    """What makes the head again with fewer outputs."""
    if not isinstance(spec, (str, Mapping)):
        raise ConfigError(
            f"targets: the head {head.kind!r} was given as a class or an instance; "
            "only heads by name are made again with fewer outputs"
        )
    own = {"kind": spec} if isinstance(spec, str) else dict(spec)
    whole = torch.Size(head.shape).numel()
    if whole > 1 or "num_targets" in own:
        own["num_targets"] = len(rows)
    return own


def _copy(
    old: nn.Module, new: nn.Module, groups: Sequence[tuple[int, list[int]]]
) -> None:
    """The weights that stay; of last layers the rows of the outputs that stay."""
    given = dict(old.named_parameters())
    single_old, single_new = (not hasattr(net.head, "heads") for net in (old, new))
    with torch.no_grad():
        for name, value in new.named_parameters():
            if not name.startswith("head."):
                value.copy_(given[name])
                continue
            bare = name.removeprefix("head.")
            number = 0
            if not single_new:
                _, place, bare = bare.split(".", 2)
                number = int(place)
            part, rows = groups[number]
            before = f"head.{bare}" if single_old else f"head.heads.{part}.{bare}"
            whole = torch.Size(_parts(old.head)[part].shape).numel()
            value.copy_(_rows(before, given[before], value, rows, whole))


def _rows(
    name: str, old: Tensor, new: Tensor, rows: Sequence[int], count: int
) -> Tensor:
    """Those entries along the axis of the outputs.

    Raises:
        ConfigError: There is no such axis.
    """
    if old.shape == new.shape:
        return old
    axis = axis_of_change(name, old, new)
    if old.shape[axis] % count:
        raise ConfigError(f"{name}: has no rows for each of {count} outputs")
    split = old.unflatten(axis, (count, -1))
    kept: Tensor = split.index_select(axis, torch.tensor(rows, device=old.device))
    return kept.flatten(axis, axis + 1)


def _compare(old: Any, new: Any, columns: Sequence[int]) -> None:
    """See that both networks say the same of three atoms.

    Raises:
        ConfigError: They do not: the outputs of a head are laid out in another way.
    """
    weight = next(old.parameters())
    z = torch.tensor(
        [*old.features.known, *old.features.known][:3], device=weight.device
    )
    pos = torch.tensor([[0.0, 0, 0], [0, 0.3, 1.1], [0.9, 0, -0.6]]).to(weight)[
        : len(z)
    ]
    modes = old.training, new.training
    try:
        with torch.no_grad():
            first, second = (net.eval()(z, pos) for net in (old, new))
    finally:
        for net, mode in zip((old, new), modes, strict=True):
            net.train(mode)
    expected = first[..., list(columns)]
    if not torch.allclose(expected, second, rtol=TOLERANCE, atol=TOLERANCE):
        raise ConfigError(
            f"targets: the outputs of the head {old.head.kind!r} are not told apart"
        )
