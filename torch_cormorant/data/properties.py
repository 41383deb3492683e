"""Own molecules with own properties, from extended XYZ and whatever else ASE reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from torch_cormorant.data.extxyz_format import ParsedFrame, numbers_of
from torch_cormorant.data.frame_arrays import Floats, FrameArrays, offset_of
from torch_cormorant.data.frame_file import FrameFile
from torch_cormorant.data.molecules import Molecules
from torch_cormorant.data.targets import Target
from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError

__all__ = ["read_extxyz_properties"]

_SHAPES: dict[int, tuple[int, ...]] = {1: (), 3: (3,), 9: (3, 3)}


def read_extxyz_properties(
    path: str | os.PathLike[str],
    target: str | Sequence[str],
    units: Mapping[str, str],
    *,
    unit: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    format: str | None = None,
    name: str | None = None,
    level_of_theory: str = "unknown",
) -> Molecules:
    """Molecules with properties of your own: numbers, vectors, tensors, atoms' values.

    A property is found by its name: in the second line of a frame it belongs to the
    molecule (``gap=5.1``, ``dipole="0.1 0.0 1.8"``), as a column to the atoms
    (``charge:R:1``). How many numbers there are tells what it is: 1 a number, 3 a
    vector x, y, z, 9 a tensor (3 x 3), another odd number the components m = -l..l of
    degree l. Several properties must be numbers, all of molecules or all of atoms.

    Each molecule is a :class:`torch_geometric.data.Data` as
    :class:`~torch_cormorant.data.Molecules` describes it, so that
    :class:`~torch_cormorant.train.MoleculeDataModule` and ``cormorant train`` take it.

    Args:
        path: The file.
        target: Name of the property, or several.
        units: Unit of each property in the file, by name; ``"1"`` for a plain number.
            ``"pos"`` among them: of the positions, default Angstrom. Those of others
            that the file holds may stand there too.
        unit: Unit to hand a property out in, by name, where it is another one than that
            of the file; converted by :func:`~torch_cormorant.data.unit_factor`.
        names: Name in the file, where it is another one.
        format: ASE's name of the format, if the name of the file does not tell.
        name: What to call the set in tables; default the name of the file.
        level_of_theory: How the properties were computed.

    Returns:
        The molecules, in memory.

    Raises:
        DataError: The file is missing or damaged, or a frame lacks a property, is
            periodic, or holds something that is not finite or of another size than in
            the first frame; file, frame and property are named.
        ConfigError: A unit is missing or cannot be converted, a property is named
            twice, or properties are of different kinds.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "h2.extxyz"
        >>> _ = path.write_text('''2
        ... Properties=species:S:1:pos:R:3:charge:R:1 gap=0.4 dipole="0 0 0"
        ... H 0 0 0    0.1
        ... H 0 0 0.7  -0.1
        ... ''')
        >>> units = {"gap": "Hartree", "charge": "e"}
        >>> read_extxyz_properties(path, "gap", units, unit={"gap": "eV"})[0].y
        tensor([[10.8846]], dtype=torch.float64)
        >>> read_extxyz_properties(path, "charge", units)[0].y.shape
        torch.Size([2, 1])
    """
    wanted = _names(target)
    unit, names = unit or {}, names or {}
    _check_names(wanted, units, unit, names)
    length = unit_factor(units.get("pos", "Angstrom"), "Angstrom")
    file = FrameFile(path, format)
    frames = [file.parsed(row) for row in range(len(file))]
    keys = [names.get(name, name) for name in wanted]
    _check_units(file.names(), units, [*wanted, *keys])
    kinds, rows = zip(*(_whole(file, frames, key) for key in keys), strict=True)
    _check_several(wanted, kinds)
    targets = [
        _target(name, key, units[name], unit.get(name, units[name]), kind)
        for name, key, kind in zip(wanted, keys, kinds, strict=True)
    ]
    scaled = [part * made.factor for part, made in zip(rows, targets, strict=True)]
    molecules = FrameArrays(
        z=np.concatenate([frame.z for frame in frames]),
        pos=np.concatenate([frame.pos for frame in frames]) * length,
        offset=offset_of([len(frame.z) for frame in frames]),
    )
    return Molecules(
        molecules,
        targets,
        np.concatenate(scaled, axis=1) if len(scaled) > 1 else scaled[0],
        name=name or file.path.name,
        source=str(file.path),
        digest=file.digest,
        level_of_theory=level_of_theory,
    )


def _names(target: str | Sequence[str]) -> list[str]:
    given: object = [target] if isinstance(target, str) else target
    if isinstance(given, Sequence) and all(isinstance(name, str) for name in given):
        return list(given)
    raise ConfigError(f"target: {target!r} is neither a name nor a list of names")


def _check_names(
    wanted: Sequence[str],
    units: Mapping[str, str],
    unit: Mapping[str, str],
    names: Mapping[str, str],
) -> None:
    texts: object  # users pass anything
    for name, texts in (("units", units), ("unit", unit), ("names", names)):
        known = isinstance(texts, Mapping)
        if not (known and all(isinstance(value, str) for value in texts.values())):
            raise ConfigError(
                f"{name}: {texts!r}; expected a text for each name, such as "
                "units={'gap': 'eV'}"
            )
    if not wanted or len(set(wanted)) < len(wanted):
        raise ConfigError(f"target: {list(wanted)}; name each property once")
    for name in wanted:
        if not units.get(name):
            raise ConfigError(
                f"units: none is given for {name!r}; name that of the file, such as "
                f"units={{{name!r}: 'eV'}}, or '1' for a plain number"
            )
    for argument, given in (("unit", unit), ("names", names)):
        for name in sorted({*given} - {*wanted}):
            known_names = ", ".join(map(repr, wanted))
            raise ConfigError(f"{argument}: {name!r} is not one of {known_names}")


def _check_units(
    held: Sequence[str], units: Mapping[str, str], wanted: Sequence[str]
) -> None:
    """Refuse the unit of something that is nowhere: a misspelt name."""
    known = list(dict.fromkeys([*wanted, "pos", *held]))
    for name in units:
        if name not in known:
            raise ConfigError(
                f"units: {name!r} is not in the file; there is {', '.join(known)}"
            )


@dataclass(frozen=True)
class _Kind:
    """How many numbers a property has, and for whom."""

    size: int
    per_atom: bool

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of one value; ``None`` for a size that means nothing."""
        return _SHAPES.get(self.size, (self.size,) if self.size % 2 else None)

    def __str__(self) -> str:
        owner = "each atom" if self.per_atom else "the molecule"
        return f"{self.size} number{'s' * (self.size > 1)} for {owner}"


def _whole(
    file: FrameFile, frames: Sequence[ParsedFrame], key: str
) -> tuple[_Kind, Floats]:
    """One property of all frames, ``[rows, *shape]``."""
    kinds, rows = [], []
    for number, frame in enumerate(frames):
        try:
            values, per_atom = _found(frame, key)
            kinds.append(_Kind(values.shape[1], per_atom=per_atom))
            _check_kind(kinds[-1], kinds[0], key)
        except ValueError as problem:
            raise file.fail(number, str(problem)) from None
        rows.append(values)
    return kinds[0], np.concatenate(rows).reshape(-1, *(kinds[0].shape or (1,)))


def _check_several(names: Sequence[str], kinds: Sequence[_Kind]) -> None:
    """Refuse properties that cannot stand side by side in one row."""
    for name, kind in zip(names, kinds, strict=True):
        alone = len(kinds) == 1
        if not alone and (kind.size > 1 or kind.per_atom != kinds[0].per_atom):
            raise ConfigError(
                f"target: {name!r} has {kind}, {names[0]!r} {kinds[0]}; "
                "several properties must be one number each, all of molecules or all "
                "of atoms; read vectors and tensors one by one"
            )


def _check_kind(here: _Kind, first: _Kind, key: str) -> None:
    if here.shape is None:
        raise ValueError(
            f"{key!r}: {here.size} numbers, expected 1, 3 (x, y, z), 9 (3 x 3) or "
            "2l + 1 of degree l"
        )
    if here != first:
        raise ValueError(
            f"{key!r}: {here}, in frame 0 {first}; it must be the same everywhere"
        )


def _found(frame: ParsedFrame, key: str) -> tuple[Floats, bool]:
    """Rows of finite numbers, and whether they belong to atoms."""
    if frame.pbc.any():
        raise ValueError("is periodic; properties are of molecules, not of cells")
    frame.check_once(key)
    per_atom = key in frame.arrays
    if not per_atom and key not in frame.info:
        there = ", ".join([*frame.info, *frame.arrays]) or "nothing of the kind"
        raise ValueError(f"property {key!r} is missing, there is {there}")
    values = frame.arrays[key] if per_atom else numbers_of(frame.info[key], key)[None]
    if not np.isfinite(values).all():
        raise ValueError(f"{key!r}: not finite")
    return values, per_atom


def _target(name: str, key: str, there: str, unit: str, kind: _Kind) -> Target:
    """A property as the tables show it: eV as meV, as those of QM9."""
    return Target(
        name,
        key,
        there,
        unit,
        # Any text is a unit where nothing is converted.
        factor=1.0 if there == unit else unit_factor(there, unit),
        shown_unit="meV" if unit == "eV" else "",
        shown_factor=1000.0 if unit == "eV" else 1.0,
        shape=kind.shape or (),
        per_atom=kind.per_atom,
    )
