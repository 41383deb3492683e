"""Errors of a finished potential beside baselines and published values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.data import CompositionBaseline, Frames
from torch_cormorant.errors import ConfigError
from torch_cormorant.models.energy import Result
from torch_cormorant.train.record import rank_correlation, results_table

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
            ``force_rmse``, ``stress_mae``; of an ensemble the root mean squares of its
            spreads ``energy_spread`` and ``force_spread``, and their rank correlations
            with the errors ``energy_rank``, ``force_rank``; and those of guessing:
            ``energy_mean_mae`` of the mean energy of the training frames,
            ``energy_composition_mae`` of least squares on their composition, where
            there are several, and ``force_zero_mae`` of no forces, each with its
            ``_rmse``.
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
        guesses = [
            ("mean of the training frames", "energy_mean"),
            ("least squares on the composition", "energy_composition"),
        ]
        rows = self._rows(name, "energy", guesses, factor)
        if self.paper is not None:
            rest = [None] * (len(rows[0]) - 2)
            paper = self.paper * factor / _per_kcal(self.unit)
            rows.append((PAPER_NOTE, paper, *rest))
        columns = ["MAE", "RMSE", "spread"]
        text = results_table(
            f"{title}\n  energies", unit, rows, columns[: len(rows[0]) - 1]
        )
        if "force_mae" in self.values:
            rows = self._rows(name, "force", [("no forces", "force_zero")], factor)
            heads = columns[: len(rows[0]) - 1]
            text += "\n" + results_table("  force components", f"{unit}/Å", rows, heads)
        ranks = [
            f"{what} {self.values[f'{key}_rank']:.2f}"
            for what, key in (("energies", "energy"), ("forces", "force"))
            if f"{key}_rank" in self.values
        ]
        if ranks:
            text += f"\n  rank correlation of spread and error: {', '.join(ranks)}"
        return text

    def _rows(
        self, name: str, key: str, guesses: Sequence[tuple[str, str]], factor: float
    ) -> list[tuple[Any, ...]]:
        """The lines of a table: MAE, RMSE, and the spread where there is one."""
        spread = [f"{key}_spread"] if f"{key}_spread" in self.values else []
        rows: list[tuple[Any, ...]] = []
        for text, which in ((name, key), *guesses):
            if f"{which}_mae" not in self.values:
                continue
            names = [f"{which}_mae", f"{which}_rmse", *spread]
            own = names if which == key else names[:2]
            numbers = [self.values[n] * factor if n in own else None for n in names]
            rows.append((text, *numbers))
        return rows

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
    train: Frames,
    test: Frames,
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
    values = _sizes("energy", wrong) | _spread("energy", wrong, output)
    values |= _sizes("energy_mean", energies - train.energies.mean())
    known, counts = train.element_counts(), test.element_counts()
    # With one composition the fit is the mean.
    if train.species == test.species and len(known.unique(dim=0)) > 1:
        fit = CompositionBaseline.fit(known, train.values)
        values |= _sizes("energy_composition", fit.predict(counts) - test.values)
    if output.forces is not None and "forces" in test.fields:
        forces = torch.cat([frame.forces for frame in test])
        values |= _sizes("force", output.forces - forces)
        values |= _spread("force", output.forces - forces, output)
        values |= _sizes("force_zero", forces)
    if output.stress is not None and "stress" in test.fields:
        stress = torch.cat([frame.stress for frame in test])
        values["stress_mae"] = float((output.stress - stress).abs().mean())
    paper = None if molecule is None else MD17_PUBLISHED.get(molecule)
    return FrameErrors(values, str(test.energy_unit), len(test), paper)


def _sizes(name: str, error: Tensor) -> dict[str, float]:
    mae, square = error.abs().mean(), error.square().mean()
    return {f"{name}_mae": float(mae), f"{name}_rmse": float(square.sqrt())}


def _spread(name: str, error: Tensor, output: Result) -> dict[str, float]:
    """Of an ensemble: size of the spread, and how well it ranks the errors."""
    field = {"energy": "energy_std", "force": "forces_std"}[name]
    std: Tensor | None = getattr(output, field, None)
    if std is None:
        return {}
    rank = rank_correlation(std.flatten(), error.abs().flatten())
    size = float(std.square().mean().sqrt())
    return {f"{name}_spread": size, f"{name}_rank": rank}
