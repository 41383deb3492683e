"""Names, units and references of the properties that the data sets offer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.units import HARTREE_TO_EV, KCAL_PER_MOL_TO_EV
from torch_cormorant.errors import ConfigError, DataError

__all__ = [
    "ATOM_REFERENCES",
    "MINI_TARGETS",
    "QM9_TARGETS",
    "Target",
    "atom_reference_sums",
    "chosen_targets",
    "energy_target",
    "find_target",
]


TOO_LARGE = 1e5
"""Numbers from here on are not printed in the unit of display."""


@dataclass(frozen=True)
class Target:
    """One property of a data set.

    Args:
        name: Name under which the property is chosen (PyG's where it has one).
        column: Its name in the data file.
        file_unit: Unit in the data file.
        unit: Unit that the data set returns.
        factor: ``value in unit = factor * value in file_unit``.
        reference: Key of :data:`~torch_cormorant.data.ATOM_REFERENCES` to subtract
            in the file's unit, or ``None``.
        shown_unit: Unit in which errors are printed; default ``unit``.
        shown_factor: ``shown value = shown_factor * value in unit``; default 1.
        paper_mae: Error that Table 1 of Anderson et al. 2019 reports for Cormorant,
            in ``shown_unit``, trained on 100,000 molecules; ``None`` if not reported.
        aliases: Other names that mean the same.
        shape: Of one value: ``()`` for a number, ``(3,)`` for a vector, ``(3, 3)`` for
            a tensor, ``(2l + 1,)`` for components of degree l.
        per_atom: Whether every atom has a value, not every molecule.

    Example:
        >>> find_target("HOMO", QM9_TARGETS).shown_unit
        'meV'
    """

    name: str
    column: str
    file_unit: str
    unit: str
    factor: float = 1.0
    reference: str | None = None
    shown_unit: str = ""
    shown_factor: float = 1.0
    paper_mae: float | None = None
    aliases: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    per_atom: bool = False

    def __post_init__(self) -> None:
        """Show errors in the unit of the data where nothing else is asked for."""
        if not self.shown_unit:
            object.__setattr__(self, "shown_unit", self.unit)

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one row of labels; a number is a row of one."""
        return self.shape or (1,)

    @property
    def owner(self) -> str:
        """What a value belongs to, ``"atom"`` or ``"molecule"``."""
        return "atom" if self.per_atom else "molecule"

    def shown(self, value: float) -> str:
        """Format a value that is given in ``unit``, with the unit of display.

        Values too large for it, such as errors of total energies at the start of a
        training, keep ``unit``.

        Example:
            >>> [find_target("gap", QM9_TARGETS).shown(v) for v in (0.061, 4321.5)]
            ['61 meV', '4322 eV']
        """
        if abs(value * self.shown_factor) >= TOO_LARGE:
            return f"{value:.4g} {self.unit}".removesuffix(" 1")
        shown = f"{value * self.shown_factor:.4g} {self.shown_unit}"
        return shown.removesuffix(" 1")  # a plain number


def energy_target(
    name: str,
    column: str,
    paper: float | None = None,
    reference: str | None = None,
    aliases: tuple[str, ...] = (),
    unit: str = "Hartree",
) -> Target:
    """An energy of a file in Hartree or kcal/mol, in eV and shown in meV."""
    return Target(
        name=name,
        column=column,
        file_unit=unit,
        unit="eV",
        factor=HARTREE_TO_EV if unit == "Hartree" else KCAL_PER_MOL_TO_EV,
        reference=reference,
        shown_unit="meV",
        shown_factor=1000.0,
        paper_mae=paper,
        aliases=aliases,
    )


def _atomisation(name: str, column: str, paper: float, alias: str) -> Target:
    return energy_target(name, column, paper, None, (column, alias), "kcal/mol")


def _table(*targets: Target) -> dict[str, Target]:
    return {target.name: target for target in targets}


#: QM9's properties in PyG's order and units. ``U0``, ``U``, ``H``, ``G`` and ``Cv`` are
#: relative to the atom references, as the paper uses them; ``*_atom`` are QM9's own
#: atomisation energies, the same quantity from another column.
QM9_TARGETS: dict[str, Target] = _table(
    Target("mu", "mu", "Debye", "Debye", paper_mae=0.038, aliases=("dipole",)),
    Target("alpha", "alpha", "bohr^3", "bohr^3", paper_mae=0.085),
    energy_target("homo", "homo", paper=34.0, aliases=("e_homo", "epsilon_homo")),
    energy_target("lumo", "lumo", paper=38.0, aliases=("e_lumo", "epsilon_lumo")),
    energy_target("gap", "gap", paper=61.0, aliases=("delta_epsilon", "e_gap")),
    Target("r2", "r2", "bohr^2", "bohr^2", paper_mae=0.961, aliases=("<r2>", "<r^2>")),
    energy_target("zpve", "zpve", paper=2.027, reference="zpve"),
    energy_target("U0", "u0", paper=22.0, reference="u0", aliases=("u_0",)),
    energy_target("U", "u298", paper=21.0, reference="u298", aliases=("u298",)),
    energy_target("H", "h298", paper=21.0, reference="h298", aliases=("h298",)),
    energy_target("G", "g298", paper=20.0, reference="g298", aliases=("g298",)),
    Target(
        "Cv",
        "cv",
        "cal/(mol K)",
        "cal/(mol K)",
        reference="cv",
        paper_mae=0.026,
        aliases=("c_v",),
    ),
    _atomisation("U0_atom", "u0_atom", 22.0, "u0_atomization"),
    _atomisation("U_atom", "u298_atom", 21.0, "u_atomization"),
    _atomisation("H_atom", "h298_atom", 21.0, "h_atomization"),
    _atomisation("G_atom", "g298_atom", 20.0, "g_atomization"),
    Target("A", "A", "GHz", "GHz"),
    Target("B", "B", "GHz", "GHz"),
    Target("C", "C", "GHz", "GHz"),
)

#: Properties of the small embedded set. Energies hold no vibrational part, so
#: ``energy_atom`` is not QM9's ``U0_atom``.
MINI_TARGETS: dict[str, Target] = _table(
    energy_target("energy_atom", "energy_atom"),
    energy_target("energy", "energy"),
    energy_target("homo", "homo", aliases=("e_homo",)),
    energy_target("lumo", "lumo", aliases=("e_lumo",)),
    energy_target("gap", "gap"),
    Target("mu", "mu", "Debye", "Debye", aliases=("dipole",)),
    Target("r2", "r2", "bohr^2", "bohr^2"),
)


_QM9_ENERGIES = {
    word.lower()
    for target in QM9_TARGETS.values()
    for word in (target.name, target.column)
    if target.name[0] in "UHG"
}


def find_target(name: str, targets: Mapping[str, Target], where: str = "QM9") -> Target:
    """Find a property by any of its names, whatever the case.

    Args:
        name: Name or alias, for example ``"HOMO"``, ``"u0_atom"`` or ``"u298"``.
        targets: :data:`QM9_TARGETS`, :data:`MINI_TARGETS` or a table of your own.
        where: What the error message calls the data set.

    Returns:
        The property.

    Raises:
        DataError: There is no such name; the message names the nearest one.

    Example:
        >>> find_target("u298", QM9_TARGETS).name
        'U'
    """
    given: object = name  # users of PyG have numbers of columns
    if not isinstance(given, str):
        names, hint = list(QM9_TARGETS), ""
        if isinstance(given, int) and 0 <= given < len(names):
            hint = f"; column {given} of PyG's QM9 is {names[given]!r}"
        raise DataError(f"target: {given!r} is not a name{hint}")
    known = {
        alias.lower(): target
        for target in targets.values()
        for alias in (target.name, *target.aliases)
    }
    found = known.get(name.lower())
    if found is not None:
        return found
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    hint = f"; did you mean {known[near[0]].name!r}?" if near else ""
    if not near and targets is MINI_TARGETS and name.lower() in _QM9_ENERGIES:
        # The nearest quantity; its own text says that it is another one.
        hint = "; the nearest is 'energy_atom', without the vibrational part"
    raise DataError(
        f"target: {where} has no property {name!r}{hint} "
        f"(there are {', '.join(targets)})"
    )


def chosen_targets(
    target: str | Sequence[str] | None,
    targets: Mapping[str, Target],
    where: str = "QM9",
) -> list[Target]:
    """The properties behind one name, several names or ``None`` (all).

    Args:
        target: What was asked for.
        targets: The table.
        where: What the error message calls the data set.

    Returns:
        The properties in the order asked for.

    Raises:
        DataError: There is no such name.
        ConfigError: There is none, or one comes twice.
    """
    if target is None:
        return list(targets.values())
    several = isinstance(target, Sequence) and not isinstance(target, str)
    names: list[str] = list(target) if several else [target]  # type: ignore[list-item]
    if not names:
        raise ConfigError("target: an empty list; name at least one property")
    found = [find_target(name, targets, where) for name in names]
    if len(set(found)) < len(found):
        raise ConfigError(f"target: {names} names a property twice")
    return found


#: Reference per property and atomic number. Source: ``atomref.txt`` of the QM9 data
#: set (Ramakrishnan et al., Sci. Data 1, 140022, 2014), B3LYP/6-31G(2df,p).
#: Hartree, except ``cv``: cal/(mol K).
ATOM_REFERENCES: dict[str, dict[int, float]] = {
    "zpve": {1: 0.0, 6: 0.0, 7: 0.0, 8: 0.0, 9: 0.0},
    "u0": {1: -0.500273, 6: -37.846772, 7: -54.583861, 8: -75.064579, 9: -99.71873},
    "u298": {1: -0.498857, 6: -37.845355, 7: -54.582445, 8: -75.063163, 9: -99.717314},
    "h298": {1: -0.497912, 6: -37.844411, 7: -54.581501, 8: -75.062219, 9: -99.71637},
    "g298": {1: -0.510927, 6: -37.861317, 7: -54.598897, 8: -75.079532, 9: -99.733544},
    "cv": {1: 2.981, 6: 2.981, 7: 2.981, 8: 2.981, 9: 2.981},
}


def atom_reference_sums(
    z: NDArray[np.int64], offset: NDArray[np.integer], key: str
) -> NDArray[np.float64]:
    r"""Sum of the atom references of every molecule.

    .. math:: R_k = \sum_{i \in k} \mathrm{ref}(z_i)

    Args:
        z: Atomic numbers of all molecules, one after the other.
        offset: Molecule ``k`` owns atoms ``offset[k]:offset[k+1]``; none is empty.
        key: A key of :data:`ATOM_REFERENCES`.

    Shapes:
        z ``[N]``, offset ``[n + 1]``, result ``[n]``.

    Returns:
        The sums in float64, Hartree (``cv``: cal/(mol K)).

    Raises:
        DataError: The key or an element has no reference.

    Example:
        >>> import numpy as np
        >>> water = atom_reference_sums(np.array([8, 1, 1]), np.array([0, 3]), "u0")
        >>> round(float(water[0]), 6)
        -76.065125
    """
    if key not in ATOM_REFERENCES:
        raise DataError(
            f"key: no atom references named {key!r}; there are "
            f"{', '.join(ATOM_REFERENCES)}"
        )
    per_element = ATOM_REFERENCES[key]
    unknown = sorted(set(np.unique(z).tolist()) - set(per_element))
    if unknown:
        raise DataError(
            f"z: no atom reference {key!r} for atomic number {unknown[0]}; QM9 has "
            f"{sorted(per_element)}; load the data without subtracting references"
        )
    table = np.zeros(max(per_element) + 1)
    for element, value in per_element.items():
        table[element] = value
    sums: NDArray[np.float64] = np.add.reduceat(table[z], offset[:-1])
    return sums
