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
from torch_cormorant.train.record import results_table

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
    """

    ours: float
    composition: float | None
    mean: float | None
    paper: float | None
    target: Target
    title: str
    zero: float | None = None

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
        rows = [(name, self.ours)]
        rows += [(text, error) for text, error in guesses if error is not None]
        factor, unit = self.target.shown_factor, self.target.shown_unit
        if max(error for _, error in rows) * factor >= TOO_LARGE:
            factor, unit = 1.0, self.target.unit
        return results_table(
            self.title,
            unit,
            [(row, error * factor) for row, error in rows],
        )

    def record(self) -> dict[str, object]:
        """The errors as plain values for JSON, in the unit of the data."""
        return {
            "unit": self.target.unit,
            "ours": self.ours,
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
) -> Comparison:
    """Errors of predictions, and of two baselines fitted to the training molecules.

    Args:
        train: Training molecules.
        test: Test molecules.
        predicted: Predictions for them in the unit of the data, ``[n, T]``, or shaped
            as ``test.values``.
        number: Which of several properties to look at; default the only one.

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
        ours = mean_absolute_error(predicted.reshape(values.shape), values)
        zero = float(values.abs().mean())
        return Comparison(ours, None, None, None, target, title, zero)
    k = number or 0
    one = slice(k, k + 1)
    known, values = train.values[:, one], test.values[:, one]
    fit = CompositionBaseline.fit(train.row_counts(), known)
    mean = MeanBaseline.fit(known)
    paper = target.paper_mae if test.is_qm9 else None
    return Comparison(
        ours=mean_absolute_error(predicted[:, one], values),
        composition=mean_absolute_error(fit.predict(test.row_counts()), values),
        mean=mean_absolute_error(mean.predict(len(values)), values),
        paper=None if paper is None else paper / target.shown_factor,
        target=target,
        title=title,
    )
