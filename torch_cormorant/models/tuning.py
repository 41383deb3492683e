"""Models that are trained further: what is frozen, and species that are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError, SpeciesError, nearest
from torch_cormorant.models.holder import Holder
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.networks import Network

__all__ = ["freeze", "with_species"]

M = TypeVar("M", bound=nn.Module)


def freeze(model: nn.Module, *names: str) -> int:
    """Freeze weights by the names of the parts that hold them.

    Args:
        model: A network, a potential, a predictor.
        *names: Such as ``"input"``, ``"convs.0"`` or ``"norms"``; those of a network
            hold with and without ``"network."`` before them.

    Returns:
        How many weights are frozen by this call.

    Raises:
        ConfigError: Nothing has that name.

    Example:
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=2)
        >>> frozen = freeze(model, "input", "convs.0")
        >>> frozen == sum(p.numel() for p in model.parameters() if not p.requires_grad)
        True
    """
    count = 0
    for part in names:
        found = [p for name, p in model.named_parameters() if is_part(name, part)]
        if not found:
            raise no_such_part(model, part)
        for parameter in found:
            count += parameter.numel() if parameter.requires_grad else 0
            parameter.requires_grad_(False)
    return count


def is_part(name: str, part: str) -> bool:
    """Whether the name of a weight lies in a part, ``"network."`` left out."""
    bare = name.removeprefix("network.")
    part = part.removeprefix("network.").rstrip(".")
    return bare == part or bare.startswith(f"{part}.")


def no_such_part(model: nn.Module, part: str) -> ConfigError:
    """An error that tells the nearest name."""
    names = {
        ".".join(words[:k])
        for name, _ in model.named_parameters()
        for words in [name.removeprefix("network.").split(".")]
        for k in range(1, len(words) + 1)
    }
    top = sorted({name.split(".")[0] for name in names})
    return ConfigError(
        f"no weights have the name {part!r}{nearest(part, sorted(names))}; the parts "
        f"are {', '.join(top)}"
    )


def with_species(
    model: M,
    species: Sequence[int],
    *,
    like: Mapping[int, int] | None = None,
    references: Mapping[int, float] | None = None,
) -> M:
    """The same model with further elements, for which it is to be trained.

    All weights are kept; what the network says of the elements it knew stays the same.
    Weights that belong to a new element start as a new network would draw them, or as
    those of an element that is named.

    Args:
        model: A network, a potential or a predictor; it is left as it is.
        species: Atomic numbers to be added.
        like: Known elements that new ones start from, ``{17: 9}``.
        references: Energies of new atoms in the unit of the model. Default: 0; a
            training that starts from the model fits them to its data.

    Returns:
        A new model.

    Raises:
        ConfigError: The model has several targets and ``references`` are given.
        SpeciesError: An element is known already, or one to start from is not.

    Example:
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=1)
        >>> with_species(model, [6], like={6: 8}).network.features.known
        (1, 6, 8)
    """
    like, whole = dict(like or {}), _network(model)
    known = whole.features.known
    fits = all(isinstance(z, Integral) for z in species) and all(
        new in species and old in known for new, old in like.items()
    )
    if not fits or not species or any(z in known for z in species):
        msg = (
            f"species {list(species)}, like {like}: the model knows {list(known)}; "
            "give atomic numbers that it does not know, each like one that it knows"
        )
        raise SpeciesError(msg)
    made: M = _rebuilt(model, sorted({*known, *map(int, species)}))
    _copy_weights(model, made, like)
    info = getattr(model, "info", None)
    if isinstance(info, ModelInfo):
        whole_info = _extended(info, species, references or {})
        made.info = whole_info  # type: ignore[assignment]
    return made.train(model.training)


def _extended(
    info: ModelInfo, species: Sequence[int], references: Mapping[int, float]
) -> ModelInfo:
    """References of the new elements beside the old ones."""
    units = info.normalisation
    if not (references or units.atom_values):
        return info
    if references and units.num_targets > 1:
        msg = f"references: the model has {units.num_targets} targets, not one"
        raise ConfigError(msg)
    rest = [0.0] * (units.num_targets - 1)
    more = {z: (float(references.get(z, 0.0)), *rest) for z in species}
    values = {**units.atom_values, **more}
    return replace(info, normalisation=replace(units, atom_values=values))


def _network(model: Any) -> Network:
    found: Network = getattr(model, "network", model)
    return found


def _rebuilt(model: Any, species: Sequence[int]) -> Any:
    network = _network(model)
    changes: dict[str, Any] = {"species": list(species)}
    if "charge_scale" in network.config:
        # that of the old elements, or their features would change
        changes["charge_scale"] = network.features.charge_scale
    weight = next(model.parameters())
    if not isinstance(model, Holder):
        return network.again(**changes)
    config = dict(model.config)
    if "network" in config:
        config["network"] = network.again(**changes)
        pair = config.get("pair")
        if isinstance(pair, Mapping) and "species" in pair:
            config["pair"] = {**pair, "species": list(species)}
    else:
        config.update(changes)
    return type(model)(**config).to(weight.device, weight.dtype)


def _copy_weights(old: Any, new: Any, like: Mapping[int, int]) -> None:
    """Weights of the old model where they belong in the new one."""
    given = dict(old.named_parameters())
    before, after = _network(old), _network(new)
    with torch.no_grad():
        for name, value in new.named_parameters():
            start = given[name]
            if start.shape == value.shape:
                value.copy_(start)
                continue
            axis = axis_of_change(name, start, value)
            rows = _by_species(start, axis, before)
            places = _by_species(value, axis, after)
            order = [list(_order(net, rows)) for net in (before, after)]
            for z, source in enumerate(order[0]):
                places[:, order[1].index(source)] = rows[:, z]
            for fresh, source in like.items():
                places[:, order[1].index(fresh)] = rows[:, order[0].index(source)]


def axis_of_change(name: str, old: Tensor, new: Tensor) -> int:
    """The one axis along which two weights of a name differ in size.

    Raises:
        ConfigError: There are several.
    """
    axes = [k for k in range(old.ndim) if old.shape[k] != new.shape[k]]
    if len(axes) != 1:
        msg = f"{name}: {tuple(old.shape)} cannot become {tuple(new.shape)}"
        raise ConfigError(msg)
    return axes[0]


def _by_species(weight: Tensor, dim: int, network: Network) -> Tensor:
    """A view with an axis of elements at 1, and powers of the charge behind it."""
    first, features = weight.movedim(dim, 0), network.features
    known, powers = len(features.known), features.charge_power + 1
    inner = powers if len(first) % (known * powers) == 0 else 1
    found: Tensor = first.unflatten(0, (-1, known, inner))
    return found


def _order(network: Network, rows: Tensor) -> Sequence[int]:
    """Elements in the order of the rows: sorted, or as they were given."""
    featured = rows.shape[2] == network.features.charge_power + 1
    given: Sequence[int] = network.config["species"]
    return network.features.known if featured else given
