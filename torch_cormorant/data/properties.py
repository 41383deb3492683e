"""Own molecules with own properties, from extended XYZ and whatever else ASE reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torch_cormorant.data.arrays import NpzFile
from torch_cormorant.data.dataset import MoleculeDataset
from torch_cormorant.data.extxyz import ExtXYZDataset
from torch_cormorant.data.extxyz_format import ParsedFrame, numbers_of
from torch_cormorant.data.frame_checks import Floats, FrameArrays, check_frames
from torch_cormorant.data.targets import Target
from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError, DataError

__all__ = ["ExtXYZProperties"]

_SHAPES: dict[int, tuple[int, ...]] = {1: (), 3: (3,), 9: (3, 3)}


class ExtXYZProperties(MoleculeDataset):
    """Molecules with properties of your own: numbers, vectors, tensors, atoms' values.

    A property is found by its name: in the second line of a frame it belongs to the
    molecule (``gap=5.1``, ``dipole="0.1 0.0 1.8"``), as a column to the atoms
    (``charge:R:1``). How many numbers there are tells what it is: 1 a number, 3 a
    vector x, y, z, 9 a tensor (3 x 3), another odd number the components m = -l..l of
    degree l. Several properties must be numbers, all of molecules or all of atoms.

    Each molecule is a :class:`torch_geometric.data.Data` as
    :class:`~torch_cormorant.data.MoleculeDataset` describes it, so that
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
        >>> ExtXYZProperties(path, "gap", units, unit={"gap": "eV"})[0].y
        tensor([[10.8846]], dtype=torch.float64)
        >>> ExtXYZProperties(path, "charge", units)[0].y.shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        target: str | Sequence[str],
        units: Mapping[str, str],
        *,
        unit: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        format: str | None = None,
        name: str | None = None,
        level_of_theory: str = "unknown",
    ) -> None:
        wanted = _names(target)
        _check_names(wanted, units, unit or {}, names or {})
        keys = {name: (names or {}).get(name, name) for name in wanted}
        lengths = {"pos": units.get("pos", "Angstrom")}
        file = ExtXYZDataset(
            path, energy=None, forces=None, units=lengths, format=format, name=name
        )
        frames = [file.parsed(row) for row in range(len(file))]
        _check_units(file.held(0), units, [*wanted, *keys.values()])
        kinds, rows = zip(
            *(_whole(file, frames, key) for key in keys.values()), strict=True
        )
        if len(kinds) > 1:
            _check_several(wanted, kinds)
        shown = {name: (unit or {}).get(name, units[name]) for name in wanted}
        factors = [_factor(units[name], shown[name]) for name in wanted]
        scaled = [part * factor for part, factor in zip(rows, factors, strict=True)]
        targets = [
            _target(name, keys[name], units[name], shown[name], kind)
            for name, kind in zip(wanted, kinds, strict=True)
        ]
        sizes = [len(frame.z) for frame in frames]
        super().__init__(
            _molecules(file, frames, sizes),
            targets,
            np.concatenate(scaled, axis=1) if len(scaled) > 1 else scaled[0],
            np.arange(len(frames)),
            [""] * len(frames),
            name=file.title,
            level_of_theory=level_of_theory,
            is_qm9=False,
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
    for name, given in (("units", units), ("unit", unit), ("names", names)):
        texts: object = given  # users pass anything
        if not (
            isinstance(texts, Mapping)
            and all(isinstance(value, str) for value in texts.values())
        ):
            raise ConfigError(
                f"{name}: {given!r}; expected a text for each name, such as "
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
        unknown = sorted({*given} - {*wanted})
        if unknown:
            raise ConfigError(
                f"{argument}: {unknown[0]!r} is not one of "
                f"{', '.join(map(repr, wanted))}"
            )


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
    file: ExtXYZDataset, frames: Sequence[ParsedFrame], key: str
) -> tuple[_Kind, Floats]:
    """One property of all frames, ``[rows, *shape]``."""
    rows: list[Floats] = []
    kind = _Kind(1, per_atom=False)
    for number, frame in enumerate(frames):
        try:
            values, per_atom = _values(frame, key)
            here = _Kind(values.shape[1], per_atom=per_atom)
            kind = kind if number else here
            _check_kind(here, kind, key)
        except ValueError as problem:
            raise DataError(f"{file.path}: frame {number}: {problem}") from None
        rows.append(values)
    shape = kind.shape or (1,)
    return kind, np.concatenate(rows).reshape(-1, *shape)


def _check_several(names: Sequence[str], kinds: Sequence[_Kind]) -> None:
    """Refuse properties that cannot stand side by side in one row."""
    for name, kind in zip(names, kinds, strict=True):
        if kind.size > 1 or kind.per_atom != kinds[0].per_atom:
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


def _values(frame: ParsedFrame, key: str) -> tuple[Floats, bool]:
    """Rows of finite numbers, and whether they belong to atoms."""
    values, per_atom = _found(frame, key)
    if not np.isfinite(values).all():
        raise ValueError(f"{key!r}: not finite")
    return values, per_atom


def _found(frame: ParsedFrame, key: str) -> tuple[Floats, bool]:
    if frame.pbc.any():
        raise ValueError("is periodic; properties are of molecules, not of cells")
    frame.check_once(key)
    if key in frame.arrays:
        return frame.arrays[key], True
    if key not in frame.info:
        there = ", ".join([*frame.info, *frame.arrays]) or "nothing of the kind"
        raise ValueError(f"property {key!r} is missing, there is {there}")
    return numbers_of(frame.info[key], key)[None], False


def _factor(there: str, shown: str) -> float:
    # Any text is a unit where nothing is converted.
    return 1.0 if there == shown else unit_factor(there, shown)


def _target(name: str, key: str, there: str, unit: str, kind: _Kind) -> Target:
    """A property as the tables show it: eV as meV, as those of QM9."""
    return Target(
        name,
        key,
        there,
        unit,
        factor=_factor(there, unit),
        shown_unit="meV" if unit == "eV" else "",
        shown_factor=1000.0 if unit == "eV" else 1.0,
        shape=kind.shape or (),
        per_atom=kind.per_atom,
    )


def _molecules(
    file: ExtXYZDataset, frames: Sequence[ParsedFrame], sizes: Sequence[int]
) -> NpzFile:
    """Elements and positions, checked, as the set wants them."""
    arrays = FrameArrays(
        z=np.concatenate([frame.z for frame in frames]),
        pos=np.concatenate([frame.pos for frame in frames]) * file.factors["pos"],
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    )
    check_frames(arrays, str(file.path))
    kept: dict[str, Any] = {"z": arrays.z, "pos": arrays.pos, "offset": arrays.offset}
    return NpzFile(file.path, file.digest, kept)
