"""Errors of a finished run beside those of the baselines."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from torch_cormorant.data import (
    CompositionBaseline,
    MeanBaseline,
    Molecules,
    Target,
    mean_absolute_error,
)
from torch_cormorant.train.record import rank_correlation, results_table

__all__ = ["PAPER_NOTE", "Comparison", "compare"]

TOO_LARGE = 1e6
"""With an error from here on, a table keeps the unit of the data."""
PAPER_NOTE = "Cormorant, paper's Table 1 (100,000 training molecules)"


@dataclass(frozen=True)
class Comparison:
    """Mean absolute errors on the test molecules, in the unit of the data.

    Args:
        ours: Of the predictions; of vectors and tensors the mean over all components.
        composition: Of least squares on the composition of the training molecules; for
            values of atoms of the mean of every element; ``None`` for vectors.
        mean: Of the mean of the training values; ``None`` for vectors.
        paper: The published error; ``None`` unless the molecules are QM9's.
        target: Tells the unit.
        title: First line of the table.
        zero: Of guessing zero; ``None`` for numbers.
        rmse: Root mean square of the error of the predictions.
        spread: Of an ensemble: root mean square of its spread.
        rank: Rank correlation of its spread and the error.
    """

    ours: float
    composition: float | None
    mean: float | None
    paper: float | None
    target: Target
    title: str
    zero: float | None = None
    rmse: float | None = None
    spread: float | None = None
    rank: float | None = None

    def table(self, name: str, part: str = "the training") -> str:
        """The errors as text, in the unit of display.

        Args:
            name: What to call the predictions.
            part: Whose mean it is: that of ``the training`` molecules (default), or of
                ``these``.
        """
        least = "least squares on the composition"
        if self.target.per_atom:
            least = f"mean of each element in {part} molecules"
        guesses = [
            (least, self.composition),
            (f"mean of {part} {self.target.owner}s", self.mean),
            ("always zero", self.zero),
            (PAPER_NOTE, self.paper),
        ]
        more = {"RMSE": self.rmse, "spread": self.spread} if self.spread else {}
        held = {column: value for column, value in more.items() if value is not None}
        rows: list[tuple[str, list[float | None]]] = [
            (name, [self.ours, *held.values()])
        ]
        empty = [None] * len(held)
        rows += [
            (text, [error, *empty]) for text, error in guesses if error is not None
        ]
        factor, unit = self.target.shown_factor, self.target.shown_unit
        if max(values[0] or 0.0 for _, values in rows) * factor >= TOO_LARGE:
            factor, unit = 1.0, self.target.unit
        scaled = [
            (text, *(None if value is None else value * factor for value in values))
            for text, values in rows
        ]
        found = results_table(self.title, unit, scaled, ["MAE", *held])
        if self.rank is None:
            return found
        return f"{found}\n  rank correlation of spread and error: {self.rank:.2f}"

    def record(self) -> dict[str, object]:
        """The errors as plain values for JSON, in the unit of the data."""
        return {
            "unit": self.target.unit,
            "ours": self.ours,
            "rmse": self.rmse,
            "composition_least_squares": self.composition,
            "training_mean": self.mean,
            "zero": self.zero,
            "paper": self.paper,
            "paper_note": PAPER_NOTE if self.paper is not None else None,
        }


def compare(
    train: Molecules,
    test: Molecules,
    predicted: Tensor,
    number: int | None = None,
    std: Tensor | None = None,
) -> Comparison:
    """Errors of predictions, and of two baselines fitted to the training molecules.

    Args:
        train: Training molecules.
        test: Test molecules.
        predicted: Predictions for them in the unit of the data, ``[n, T]``, or shaped
            as ``test.values``.
        number: Which of several properties to look at; default the only one.
        std: Spread of an ensemble, shaped as the predictions.

    Returns:
        The errors. The published one is there for QM9's own molecules only.

    Example:
        >>> from torch_cormorant.data import MiniQM9
        >>> data = MiniQM9("lumo")
        >>> found = compare(data[:250], data[250:], data[250:].values)
        >>> found.ours, found.composition > 0.1, found.paper
        (0.0, True, None)
    """
    target = train.target if number is None else train.targets[number]
    title = (
        f"{test.title}: {target.name} of {'the atoms of ' * target.per_atom}"
        f"{len(test)} test molecules{', all components' * bool(target.shape)}, "
        f"{len(train)} training molecules"
    )
    if target.shape:
        values = test.values
        ours = predicted.reshape(values.shape)
        zero = float(values.abs().mean())
        mae = mean_absolute_error(ours, values)
        more = _further(ours, values, std)
        return Comparison(mae, None, None, None, target, title, zero, **more)
    k = number or 0
    one = slice(k, k + 1)
    known, values = train.values[:, one], test.values[:, one]
    fit = CompositionBaseline.fit(train.row_counts(), known)
    mean = MeanBaseline.fit(known)
    paper = target.paper_mae if test.is_qm9 else None
    own = None if std is None else std[:, one]
    return Comparison(
        ours=mean_absolute_error(predicted[:, one], values),
        composition=mean_absolute_error(fit.predict(test.row_counts()), values),
        mean=mean_absolute_error(mean.predict(len(values)), values),
        paper=None if paper is None else paper / target.shown_factor,
        target=target,
        title=title,
        **_further(predicted[:, one], values, own),
    )


def _further(ours: Tensor, values: Tensor, std: Tensor | None) -> dict[str, float]:
    """Root mean square of the error, and what an ensemble's spread says of it."""
    wrong = (ours - values).flatten()
    found = {"rmse": float(wrong.square().mean().sqrt())}
    if std is not None:
        found["spread"] = float(std.square().mean().sqrt())
        found["rank"] = rank_correlation(std.flatten(), wrong.abs())
    return found
