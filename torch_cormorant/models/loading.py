"""One model or several, from a file, a folder or a name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch

from torch_cormorant.errors import ModelFileError
from torch_cormorant.models.ensemble import Ensemble
from torch_cormorant.models.files import Model, load_model
from torch_cormorant.models.measures import RECORD, read_measures
from torch_cormorant.models.shipped import model_path
from torch_cormorant.models.together import Together
from torch_cormorant.nn.parts import Part

__all__ = ["Loaded", "load_models"]

Loaded: TypeAlias = Model | Ensemble | Together
"""What a model file or a folder of them holds."""


def load_models(
    path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    *,
    parts: Iterable[type[Part]] = (),
) -> Loaded:
    """What a file or a folder holds: a model, or several.

    Those of the same outputs are an :class:`.Ensemble`, those of different properties
    are :class:`.Together`.

    Args:
        path: A model file; a folder as for :meth:`.Ensemble.load`, where a folder with
            one model is that model; or, where there is no such file, a name of
            :func:`pretrained_models`.
        device: Where the weights go.
        parts: As for :func:`~torch_cormorant.load_model`.

    Raises:
        ModelFileError: There is none, or it cannot be read.
        ConfigError: The models of the folder do not fit together.
    """
    place = model_path(path)
    if not place.is_dir():
        return load_model(place, device, parts=parts)
    files = sorted(place.rglob("*.safetensors"))
    if not files:
        msg = f"{place}: a folder without a model file (*.safetensors)"
        raise ModelFileError(msg)
    if len(files) == 1:
        return load_model(files[0], device, parts=parts)
    models: list[Any] = [load_model(file, device, parts=parts) for file in files]
    names = [model.info.targets for model in models]
    if all(one.info.targets != names[0] for one in models[1:]):
        return Together(models)
    return Ensemble(models, *read_measures(place / RECORD))
