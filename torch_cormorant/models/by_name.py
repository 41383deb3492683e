"""Models out of the weights that come with the package."""

from __future__ import annotations

from typing import overload

import torch

from torch_cormorant.models.files import Model, load_model
from torch_cormorant.models.loading import Loaded, load_models
from torch_cormorant.models.shipped import pretrained_models, shipped

__all__ = ["pretrained"]


@overload
def pretrained(name: None = None) -> list[str]: ...


@overload
def pretrained(
    name: str, member: None = None, *, device: str | torch.device = "cpu"
) -> Loaded: ...


@overload
def pretrained(
    name: str, member: int, *, device: str | torch.device = "cpu"
) -> Model: ...


def pretrained(
    name: str | None = None,
    member: int | None = None,
    *,
    device: str | torch.device = "cpu",
) -> Loaded | list[str]:
    """A trained model that comes with the package.

    Args:
        name: One of :func:`~torch_cormorant.models.pretrained_models`. Default: none,
            to be told the names.
        member: Which model of an ensemble, from 0. Default: the ensemble.
        device: Where the weights go.

    Returns:
        An :class:`.Ensemble`, a :class:`.Potential` or a :class:`.Predictor`; without a
        name the list of all names.

    Raises:
        ModelFileError: There are no such weights; the message lists those there are.

    Example:
        >>> import torch_cormorant
        >>> names = torch_cormorant.pretrained()
        >>> isinstance(names, list)
        True
    """
    if name is None:
        return list(pretrained_models())
    found = shipped(name)
    if member is None:
        return load_models(found.folder, device)
    return load_model(found.member(member), device)
