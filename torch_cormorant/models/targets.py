"""Which head fits which property."""

from __future__ import annotations

from torch_cormorant.data import MINI_TARGETS, QM9_TARGETS, find_target

__all__ = ["TARGET_HEADS", "head_for_target", "reference_for_head"]

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
_REFERENCES = {
    "extensive": "composition",
    "polarizability_trace": "composition",
    "linear": "composition",
    "published": "composition",
    "mean": "mean",
    "attention": "mean",
    "spatial_extent": "mean",
}


def head_for_target(name: str) -> str:
    """The head that fits a property of QM9 (or of the embedded set).

    ===================================================  ====================
    property                                             head
    ===================================================  ====================
    U0, U, H, G, zpve, Cv, alpha, atomisation energies   ``"extensive"``
    homo, lumo, gap                                      ``"published"``
    mu                                                   ``"dipole_norm"``
    r2                                                   ``"spatial_extent"``
    A, B, C                                              ``"published"``
    ===================================================  ====================

    Args:
        name: Name or alias of the property, as in
            :func:`~torch_cormorant.data.find_target`.

    Returns:
        A value of ``head=`` of :class:`~torch_cormorant.Cormorant`.

    Raises:
        DataError: There is no such property; the message names the nearest one.

    Example:
        >>> head_for_target("dipole"), head_for_target("u0_atom")
        ('dipole_norm', 'extensive')
    """
    return TARGET_HEADS[find_target(name, {**MINI_TARGETS, **QM9_TARGETS}).name]


def reference_for_head(kind: str) -> str:
    """What may be subtracted from labels before a head learns the rest.

    A number can have the least-squares fit to the composition subtracted, where the
    head can make up for what the fit gets wrong; means over atoms only their mean.
    Dipoles, their lengths and other tensors have a zero that must stay: nothing is
    subtracted.

    Args:
        kind: Name of a head, ``model.head.kind``.

    Returns:
        ``"composition"``, ``"mean"`` or ``"none"``.

    Example:
        >>> reference_for_head("extensive"), reference_for_head("dipole_norm")
        ('composition', 'none')
    """
    return _REFERENCES.get(kind, "none")
