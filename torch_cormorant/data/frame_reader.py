"""Frames of a file one by one, with names and units mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from torch_cormorant.data.extxyz_format import (
    COLUMN_BY_COLUMN,
    ParsedFrame,
    numbers_of,
)
from torch_cormorant.data.frame_arrays import Floats, FrameArrays, check_frames
from torch_cormorant.data.frame_file import FrameFile

__all__ = ["FrameReader"]

_PER_FRAME_SHAPES = {"energy": 1, "stress": 9, "virial": 9, "dipole": 3}
_VOIGT = [0, 5, 4, 5, 1, 3, 4, 3, 2]


@dataclass(frozen=True)
class FrameReader:
    """Reads what is asked for of a file, in the units that are asked for.

    Args:
        file: The file.
        names: What is asked for, and its name in the file.
        factors: From the units of the file.
        advice: What to do about a property that is missing.
    """

    file: FrameFile
    names: Mapping[str, str]
    factors: Mapping[str, float]
    advice: str

    def arrays(self, idx: int) -> FrameArrays:
        """One frame, checked; with a cell if any frame of the file has one."""
        frame = self.file.parsed(idx)
        try:
            arrays = self._converted(frame)
        except ValueError as error:
            raise self.file.fail(idx, str(error)) from None
        check_frames(arrays, str(self.file.path), lambda _: f"frame {idx}")
        if not self.file.periodic:
            return replace(arrays, cell=None, pbc=None)
        none = np.zeros((1, 3, 3))
        return replace(arrays, cell=none if arrays.cell is None else arrays.cell)

    def gathered(self, rows: Sequence[int]) -> FrameArrays:
        """Several frames, checked."""
        return FrameArrays.joined([self.arrays(idx) for idx in rows])

    def isolated_energies(self) -> dict[int, float]:
        """Energies of single atoms, from frames with ``config_type=IsolatedAtom``."""
        found: dict[int, float] = {}
        rows = range(len(self.file)) if "energy" in self.names else ()
        for idx in rows:
            if not self.file.single(idx):
                continue
            if self.file.info(idx).get("config_type", "").lower() != "isolatedatom":
                continue
            held = self.arrays(idx).held()
            element, energy = int(held["z"][0]), float(held["energy"][0])
            if found.setdefault(element, energy) != energy:
                raise self.file.fail(
                    idx, f"another energy of the isolated atom {element}"
                )
        return found

    def _converted(self, frame: ParsedFrame) -> FrameArrays:
        found = {
            field: self._property(frame, field, key) * self.factors[field]
            for field, key in self.names.items()
        }
        cell = None if frame.cell is None else frame.cell * self.factors["pos"]
        if "virial" in found:
            volume = 0.0 if cell is None else abs(float(np.linalg.det(cell)))
            if volume == 0:
                raise ValueError(
                    "'virial': a stress from it needs a cell of three vectors"
                )
            found["stress"] = -found.pop("virial") / volume
        if "stress" in found:
            found["stress"] = found["stress"].reshape(1, 3, 3)
        if "dipole" in found:
            found["dipole"] = found["dipole"][None]
        return FrameArrays(
            z=frame.z.copy(),
            pos=frame.pos * self.factors["pos"],
            offset=np.array([0, len(frame.z)]),
            cell=None if cell is None else cell[None],
            pbc=frame.pbc[None].copy(),
            **found,
        )

    def _property(self, frame: ParsedFrame, field: str, key: str) -> Floats:
        """One property of a frame, flat (per atom: as it is).

        Raises:
            ValueError: It is missing, there twice or has another size; the message
                names the field.
        """
        frame.check_once(key)
        held: Mapping[str, object] = frame.arrays if field == "forces" else frame.info
        if key not in held:
            there = ", ".join(held) or "nothing of the kind"
            advice = self.advice.format(field=field)
            raise ValueError(f"{key!r} is missing, there is {there}; {advice}")
        if field == "forces":
            table = frame.arrays[key]
            if table.shape != (len(frame.z), 3):
                raise ValueError(f"{key!r}: {table.shape[1]} columns, expected 3")
            return table
        values, size = numbers_of(frame.info[key], key), _PER_FRAME_SHAPES[field]
        tensor = field in {"stress", "virial"}
        if tensor:
            values = _tensor(values, key)
        if values.shape != (size,):
            raise ValueError(
                f"{key!r}: {len(values)} numbers, expected {size}{' or 6' * tensor}"
            )
        return values


def _tensor(values: Floats, key: str) -> Floats:
    """Nine numbers of a stress or virial, row by row."""
    if values.shape == (6,):
        return np.asarray(values[_VOIGT])
    if values.shape == (9,) and key in COLUMN_BY_COLUMN:
        return np.asarray(values.reshape(3, 3).T.reshape(9))
    return values
