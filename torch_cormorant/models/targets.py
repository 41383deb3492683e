"""Which head fits which property."""

from __future__ import annotations

import torch

from torch_cormorant.cg.exact import MAX_DEGREE
from torch_cormorant.data import (
    MINI_TARGETS,
    QM9_TARGETS,
    Target,
    find_target,
    unit_factor,
)
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.nn.heads import HeadSpec, LevelSizes, make_head

__all__ = [
    "TARGET_HEADS",
    "head_for_target",
    "reference_for_head",
]

_EXTENSIVE = ("alpha", "zpve", "U0", "U", "H", "G", "Cv", "energy", "energy_atom")
_ATOMISATION = ("U0_atom", "U_atom", "H_atom", "G_atom")

#: Head of every property of QM9 and of the embedded set.
TARGET_HEADS: dict[str, str] = {
    "mu": "dipole_norm",
    "r2": "spatial_extent",
    # Measured, page Recipes: better than attention, which is better than the mean.
    **dict.fromkeys(("homo", "lumo", "gap"), "published"),
    **dict.fromkeys((*_EXTENSIVE, *_ATOMISATION), "extensive"),
    # Rotational constants belong to the whole molecule and grow when it shrinks.
    **dict.fromkeys("ABC", "published"),
}


def head_for_target(target: Target | str) -> HeadSpec:
    """The head that fits a property: of QM9 by its name, of any data set by itself.

    ===================================================  ===============================
    property                                             head
    ===================================================  ===============================
    U0, U, H, G, zpve, Cv, alpha, atomisation energies   ``"extensive"``
    homo, lumo, gap                                      ``"published"``
    mu                                                   ``"dipole_norm"``
    r2                                                   ``"spatial_extent"``
    A, B, C                                              ``"published"``
    another number                                       ``"published"``: MLP, sum, MLP
    a vector in Debye, e Angstrom, ...                   ``"dipole"``
    another vector                                       ``"vector"``, ``"atom_vector"``
    a tensor (3 x 3)                                     ``"polarizability"``
    2l + 1 components, a number of an atom               ``"so3"`` of degree l
    ===================================================  ===============================

    A property that grows with the molecule, such as an energy, is better off with
    ``"extensive"``; a name that is not known does not tell.

    Args:
        target: Name or alias of a property of QM9 or the embedded set, as in
            :func:`~torch_cormorant.data.find_target`; or a property of any data set,
            ``dataset.targets[0]`` for example, which is judged by its name, shape and
            unit.

    Returns:
        A value of ``head=`` of :class:`~torch_cormorant.Cormorant`.

    Raises:
        DataError: There is no property of that name; the message names the nearest.
        ConfigError: No head predicts it: tensors of atoms.

    Example:
        >>> head_for_target("dipole"), head_for_target("u0_atom")
        ('dipole_norm', 'extensive')
        >>> head_for_target(Target("d", "d", "e*bohr", "e*bohr", shape=(3,)))
        'dipole'
        >>> head_for_target(Target("q", "q", "e", "e", per_atom=True))
        {'kind': 'so3', 'degree': 0, 'per_atom': True}
    """
    if isinstance(target, str):
        return TARGET_HEADS[find_target(target, {**MINI_TARGETS, **QM9_TARGETS}).name]
    return _head_of_tensor(target) or _head_of_number(target)


def _head_of_tensor(target: Target) -> HeadSpec | None:
    """By shape and owner; None for numbers of molecules."""
    if target.shape == (3, 3):
        if target.per_atom:
            raise ConfigError(
                f"{target.name!r}: no head predicts tensors (3 x 3) of atoms; train "
                "its parts of degree 0, 1 and 2 one by one, each with the head 'so3'"
            )
        return "polarizability"
    if target.shape == (3,):
        if target.per_atom:
            return "atom_vector"
        return "dipole" if _alike(target.unit, "Debye") else "vector"
    if target.shape or target.per_atom:
        degree = (target.row[0] - 1) // 2
        return {"kind": "so3", "degree": degree, "per_atom": target.per_atom}
    return None


def _head_of_number(target: Target) -> str:
    try:
        known = find_target(target.name, {**MINI_TARGETS, **QM9_TARGETS})
    except DataError:
        return "published"
    # One name may mean many things: mu is a chemical potential, too.
    same = _alike(target.unit, known.unit)
    return TARGET_HEADS[known.name] if same else "published"


def _alike(unit: str, other: str) -> bool:
    """Whether two units measure the same."""
    try:
        unit_factor(unit, other)
    except ConfigError:  # another quantity, or a unit that nobody knows
        return unit == other
    return True


def reference_for_head(head: HeadSpec, target: Target | None = None) -> str:
    """What may be subtracted from labels before a head learns the rest.

    A number can have the least-squares fit to the composition subtracted, where the
    head can make up for what the fit gets wrong; means over atoms only their mean.
    Dipoles, their lengths and other tensors have a zero that must stay: nothing is
    subtracted. A class of heads says it with ``reference``, ``scale_only`` and
    ``additive``.

    Args:
        head: ``model.head``, or what describes a head: a name for example.
        target: The property, if it is one of a data set: numbers of atoms have a mean
            for every element, ``"composition"``, and tensors nothing.

    Returns:
        ``"composition"``, ``"mean"`` or ``"none"``.

    Example:
        >>> reference_for_head("extensive"), reference_for_head("dipole_norm")
        ('composition', 'none')
        >>> reference_for_head("so3", Target("q", "q", "e", "e", per_atom=True))
        'composition'
    """
    if target is not None and target.per_atom and target.row == (1,):
        return "composition"
    if target is not None and target.shape:
        return "none"
    with torch.device("meta"):  # neither weights nor random numbers
        made = make_head(head, LevelSizes((1,), (MAX_DEGREE,), 2))
    if made.reference is not None:
        return made.reference
    if made.scale_only:
        return "none"
    return "composition" if made.additive else "mean"
