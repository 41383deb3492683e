"""Units of data files, and the factors between them."""

from __future__ import annotations

import re

from torch_cormorant.errors import ConfigError

__all__ = ["HARTREE_TO_EV", "KCAL_PER_MOL_TO_EV", "unit_factor"]

# Both as in torch_geometric.datasets.QM9, so that numbers can be compared digit by
# digit with those of other PyG models.
HARTREE_TO_EV: float = 27.211386246
KCAL_PER_MOL_TO_EV: float = 0.04336414

# CODATA 2018; the first three are exact by definition of the SI.
_CHARGE = 1.602176634e-19  # coulomb
_AVOGADRO = 6.02214076e23
_DEBYE = 1e-21 / 299_792_458  # coulomb metre
_JOULE_PER_MOL = 1 / (_CHARGE * _AVOGADRO)  # eV
_HARTREE = 27.211386245988  # eV
_BOHR = 0.529177210903  # Angstrom
_PASCAL = 1e-30 / _CHARGE  # eV / Angstrom^3

# Value in eV, Angstrom and elementary charges; powers of energy, length and charge.
_UNITS: dict[str, tuple[float, tuple[int, int, int]]] = {
    "ev": (1.0, (1, 0, 0)),
    "mev": (1e-3, (1, 0, 0)),
    "hartree": (_HARTREE, (1, 0, 0)),
    "rydberg": (_HARTREE / 2, (1, 0, 0)),
    "kcal/mol": (4184 * _JOULE_PER_MOL, (1, 0, 0)),
    "kj/mol": (1000 * _JOULE_PER_MOL, (1, 0, 0)),
    "angstrom": (1.0, (0, 1, 0)),
    "bohr": (_BOHR, (0, 1, 0)),
    "nm": (10.0, (0, 1, 0)),
    "pm": (0.01, (0, 1, 0)),
    "e": (1.0, (0, 0, 1)),
    "debye": (_DEBYE / _CHARGE * 1e10, (0, 1, 1)),
    "gpa": (1e9 * _PASCAL, (1, -3, 0)),
    "kbar": (1e8 * _PASCAL, (1, -3, 0)),
    "bar": (1e5 * _PASCAL, (1, -3, 0)),
    "pa": (_PASCAL, (1, -3, 0)),
    "1": (1.0, (0, 0, 0)),
}
_ALIASES = {
    "a": "angstrom",
    "ang": "angstrom",
    "å": "angstrom",
    "ha": "hartree",
    "eh": "hartree",
    "ry": "rydberg",
    "a0": "bohr",
    "d": "debye",
    "electronvolt": "ev",
}
_SIGNS = str.maketrans({"²": "^2", "³": "^3", "·": "*", "⋅": "*"})
_TOKEN = re.compile(r"(kcal/mol|kj/mol|[a-zå]+0?|1)(?:\^(-?\d))?")


def unit_factor(source: str, target: str) -> float:
    r"""Factor from one unit to another, by the constants of CODATA 2018.

    Units are products and quotients of eV, meV, Hartree, Rydberg, kcal/mol, kJ/mol,
    Angstrom, bohr, nm, pm, e, Debye, Pa, bar, kbar and GPa, such as
    ``kcal/mol/Angstrom``, ``kcal/(mol Angstrom)``, ``e Angstrom`` or
    ``eV/Angstrom^3``, in any case. (QM9 keeps PyG's factors,
    which differ in the ninth and seventh digit.)

    Args:
        source: Unit of the values at hand.
        target: Unit that is wanted.

    Returns:
        ``value in target = factor * value in source``.

    Raises:
        ConfigError: A unit is not known, or the two measure different things.

    Example:
        >>> round(unit_factor("Hartree", "kcal/mol"), 4)
        627.5095
        >>> round(unit_factor("GPa", "eV/Angstrom^3"), 8)
        0.00624151
    """
    (size, powers), (wanted, wanted_powers) = _parse(source), _parse(target)
    if powers != wanted_powers:
        raise ConfigError(
            f"units: {source!r} cannot be expressed in {target!r}, they measure "
            "different things"
        )
    return 1.0 if _plain(source) == _plain(target) else size / wanted


def unit_is_known(unit: str) -> bool:
    """Whether :func:`unit_factor` understands a unit.

    Args:
        unit: Any text.

    Example:
        >>> unit_is_known("Debye"), unit_is_known("Debey")
        (True, False)
    """
    return _understood(unit) is not None


def same_unit(one: str, other: str) -> bool:
    """Whether two texts name the same unit, in whatever spelling.

    Args:
        one: A unit, understood by :func:`unit_factor` or not.
        other: Another.

    Example:
        >>> same_unit("kcal/(mol A)", "kcal/mol/Angstrom"), same_unit("eV", "Ha")
        (True, False)
    """
    known = _understood(one)
    return _plain(one) == _plain(other) or known == _understood(other) is not None


def _understood(unit: str) -> tuple[float, tuple[int, int, int]] | None:
    try:
        return _parse(unit)
    except ConfigError:
        return None


def _plain(unit: str) -> str:
    """One spelling for all: small letters, ``*`` and ``/``, no brackets."""
    text = unit.strip().lower().translate(_SIGNS).replace("**", "^")
    text = re.sub(r"\s*([*/^()])\s*", r"\1", text)
    text = re.sub(r"\s+", "*", text)
    # 1/(a*b) is 1/a/b; there is nothing else to be bracketed.
    text = re.sub(
        r"/\(([^()/]*)\)", lambda found: "/" + found[1].replace("*", "/"), text
    )
    return re.sub(r"\b(kcal|kj)\*mol\^-1", r"\1/mol", text)


def _parse(unit: str) -> tuple[float, tuple[int, int, int]]:
    text = _plain(unit)
    size, total, position, sign = 1.0, [0, 0, 0], 0, 1
    while True:
        token = _TOKEN.match(text, position)
        name = _ALIASES.get(token[1], token[1]) if token else ""
        if token is None or name not in _UNITS:
            raise ConfigError(
                f"units: {unit!r} is not understood; use products and quotients of "
                f"{', '.join(list(_UNITS)[:-1])}, for example 'eV/Angstrom'"
            )
        power = sign * int(token[2] or 1)
        value, powers = _UNITS[name]
        size *= value**power
        total = [old + power * new for old, new in zip(total, powers, strict=True)]
        position = token.end()
        if position == len(text):
            return size, (total[0], total[1], total[2])
        if text[position] not in "*/":
            raise ConfigError(
                f"units: {unit!r} is not understood at {text[position]!r}"
            )
        sign = 1 if text[position] == "*" else -1
        position += 1
