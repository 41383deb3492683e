"""The network for molecular properties that did best in the ablations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from torch_cormorant.errors import ConfigError
from torch_cormorant.models.cormorant import Cormorant
from torch_cormorant.nn.heads import Head, HeadList

__all__ = ["RECIPE", "RECIPE_SIZES", "recipe"]

#: Named sizes of :func:`recipe`; ``"complex"`` is what was the default before.
RECIPE_SIZES: dict[str, dict[str, Any]] = {
    "small": {"complex": False, "channels": 16, "lmax": 2, "num_levels": 3},
    "medium": {"complex": False, "channels": 32, "lmax": 2, "num_levels": 3},
    "large": {"complex": False, "channels": 64, "lmax": 2, "num_levels": 3},
    "complex": {"complex": True, "channels": 16, "lmax": 3, "num_levels": 4},
}
#: Arguments of :class:`~torch_cormorant.Cormorant` that :func:`recipe` starts from.
RECIPE: dict[str, Any] = {
    **RECIPE_SIZES["medium"],
    "cutoff": 5.0,
    "paths": "even",
    "norm": "norm",
    "radial": "bessel",
    "activation": "silu",
}
START = 0.1
"""Factor on the last weights of a published head: first predictions are near zero."""


def recipe(
    species: Sequence[int] = (1, 6, 7, 8, 9),
    *,
    head: Any = "extensive",
    num_targets: int = 1,
    size: str = "medium",
    **options: Any,
) -> Cormorant:
    """Make the network for molecular properties that did best in the ablations.

    Real channels, even paths, a norm after every level, Bessel functions with a smooth
    cutoff at 5 Angstrom, SiLU, and a head that starts near zero; each of them is a row
    of a table on the page *Recipes*. Train it on normalised labels, with the
    composition baseline subtracted where
    :func:`~torch_cormorant.models.reference_for_head` says so, with Adam (AMSGrad) at
    1e-3, or from some thousand molecules on with
    :class:`~torch_cormorant.train.Muon` at 3e-3, 100 steps of warm-up, a cosine to 1 %
    and gradients clipped at 1.

    Args:
        species: Atomic numbers that may occur. Default H C N O F.
        head: What is predicted; :func:`~torch_cormorant.models.head_for_target` knows
            what fits. Default ``"extensive"``.
        num_targets: Outputs per molecule, of each head if there are several. Default 1.
        size: ``"small"``, ``"medium"`` (default) or ``"large"``, 3 levels of 16, 32 or
            64 real channels and lmax 2; or ``"complex"``, 4 levels of 16 complex
            channels and lmax 3.
        **options: Other arguments of :class:`~torch_cormorant.Cormorant`, which take
            the place of the recipe's.

    Returns:
        The network.

    Raises:
        ConfigError: No such size, or as :class:`~torch_cormorant.Cormorant`.
        ArgumentError: As :class:`~torch_cormorant.Cormorant`.

    Example:
        >>> from torch_cormorant.models import head_for_target, recipe
        >>> model = recipe(head=head_for_target("gap"), channels=8, num_levels=2)
        >>> model.head.kind, model.cutoff
        ('published', 5.0)
    """
    if size not in RECIPE_SIZES:
        raise ConfigError(f"size must be one of {tuple(RECIPE_SIZES)}, got {size!r}")
    settings = {
        **RECIPE,
        **RECIPE_SIZES[size],
        **options,
        "head": head,
        "num_targets": num_targets,
    }
    model = Cormorant(species, **settings)
    heads = model.head.heads if isinstance(model.head, HeadList) else [model.head]
    with torch.no_grad():
        for part in heads:
            if isinstance(part, Head) and part.kind == "published":
                part.rescale(START)
    return model
