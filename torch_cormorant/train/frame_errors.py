"""Errors of a finished potential beside baselines and published values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_cormorant.data import CompositionBaseline, FrameDataset
from torch_cormorant.errors import ConfigError
from torch_cormorant.models.energy import Result
from torch_cormorant.train.record import results_table

__all__ = ["MD17_PUBLISHED", "FrameErrors", "frame_errors", "join_outputs"]

#: Energy errors in kcal/mol that Anderson et al. 2019 report for Cormorant (Table 1,
#: MD17), trained on 50,000 energies of the original MD17 without forces.
MD17_PUBLISHED: dict[str, float] = {
    "aspirin": 0.098,
    "benzene": 0.023,
    "ethanol": 0.027,
    "malonaldehyde": 0.041,
    "naphthalene": 0.029,
    "salicylic acid": 0.066,
    "toluene": 0.034,
    "uracil": 0.023,
}
PAPER_NOTE = "Cormorant, paper (50,000 original MD17 energies, no forces)"


@dataclass(frozen=True)
class FrameErrors:
    """Errors on test frames, in the unit of the data.

    Args:
        values: Numbers by name: ``energy_mae``, ``energy_rmse``, ``force_mae``,
            ``force_rmse``, ``stress_mae``, and those of guessing:
            ``energy_mean_mae`` of the mean energy of the training frames,
            ``energy_composition_mae`` of least squares on their composition, where
            there are several, and ``force_zero_mae`` of no forces.
        unit: Of the energies; forces are per Angstrom.
        count: Number of test frames.
        paper: The published energy error in kcal/mol, where there is one.
    """

    values: dict[str, float]
    unit: str
    count: int
    paper: float | None = None

    def table(self, name: str, title: str, *, factor: float, unit: str) -> str:
        """The errors as text.

        Args:
            name: What to call the predictions.
            title: First line.
            factor: From the unit of the data to the shown one.
            unit: The shown one.
        """
        v = {key: value * factor for key, value in self.values.items()}
        rows = [
            (f"{name}, RMSE", v["energy_rmse"]),
            (name, v["energy_mae"]),
            ("mean of the training frames", v["energy_mean_mae"]),
        ]
        if "energy_composition_mae" in v:
            least = ("least squares on the composition", v["energy_composition_mae"])
            rows.insert(2, least)
        if self.paper is not None:
            rows.append((PAPER_NOTE, self.paper * factor / _per_kcal(self.unit)))
        text = results_table(f"{title}\n  energies", unit, rows)
        if "force_mae" in v:
            rows = [
                (f"{name}, RMSE", v["force_rmse"]),
                (name, v["force_mae"]),
                ("no forces", v["force_zero_mae"]),
            ]
            text += "\n" + results_table("  force components", f"{unit}/Å", rows)
        return text

    def record(self) -> dict[str, object]:
        """The errors as plain values for JSON."""
        return {
            "unit": self.unit,
            "frames": self.count,
            **self.values,
            "paper_kcal_per_mol": self.paper,
            "paper_note": None if self.paper is None else PAPER_NOTE,
        }


def _per_kcal(unit: str) -> float:
    # How many kcal/mol one of the unit is.
    from torch_cormorant.data import unit_factor

    return float(unit_factor(unit, "kcal/mol"))


def join_outputs(
    outputs: Sequence[Result | tuple[Tensor | None, ...]],
) -> Result:
    """Predictions of all batches, one after the other.

    Args:
        outputs: As ``trainer.predict`` returns them (tuples of energy, energies,
            forces, stress), or as ``model.evaluate`` does.

    Returns:
        The same as one.

    Raises:
        ConfigError: There are none.
    """
    if not outputs:
        raise ConfigError("outputs: there are none; predict at least one structure")

    return Result.joined(
        [
            Result(*output) if isinstance(output, tuple) else output  # type: ignore[arg-type]
            for output in outputs
        ]
    )


def frame_errors(
    train: FrameDataset,
    test: FrameDataset,
    output: Result,
    molecule: str | None = None,
) -> FrameErrors:
    """Errors of predictions, and of the baselines.

    Args:
        train: Training frames.
        test: Test frames.
        output: Predictions for them, in their unit.
        molecule: Name in :data:`~torch_cormorant.train.MD17_PUBLISHED`, where the
            frames are MD17's.

    Returns:
        The errors.

    Example:
        >>> from torch_cormorant.data import MiniEthanol
        >>> data = MiniEthanol()
        >>> forces = torch.cat([frame.forces for frame in data[:20]])
        >>> perfect = Result(data[:20].energies, None, forces, None)
        >>> frame_errors(data[20:], data[:20], perfect).values["force_mae"]
        0.0
    """
    energies = test.energies
    wrong = output.energy - energies
    values = {
        "energy_mae": _mae(wrong),
        "energy_rmse": _rmse(wrong),
        "energy_mean_mae": _mae(energies - train.energies.mean()),
    }
    known, counts = train.element_counts(), test.element_counts()
    # With one composition the fit is the mean.
    if train.species == test.species and len(known.unique(dim=0)) > 1:
        fit = CompositionBaseline.fit(known, train.values)
        values["energy_composition_mae"] = _mae(fit.predict(counts) - test.values)
    if output.forces is not None and "forces" in test.fields:
        forces = torch.cat([frame.forces for frame in test])
        values["force_mae"] = _mae(output.forces - forces)
        values["force_rmse"] = _rmse(output.forces - forces)
        values["force_zero_mae"] = _mae(forces)
    if output.stress is not None and "stress" in test.fields:
        stress = torch.cat([frame.stress for frame in test])
        values["stress_mae"] = _mae(output.stress - stress)
    paper = None if molecule is None else MD17_PUBLISHED.get(molecule)
    return FrameErrors(values, str(test.energy_unit), len(test), paper)


def _mae(error: Tensor) -> float:
    return error.abs().mean().item()


def _rmse(error: Tensor) -> float:
    return error.square().mean().sqrt().item()
