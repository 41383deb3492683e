"""The tables of :mod:`benchmarks.thesis` in Markdown, with what they say."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch_cormorant.errors import DataError

Found = dict[str, list[dict[str, Any]]]
"""Records by row, ordered by seed."""
COMMAND = "`python -m benchmarks.thesis --npz qm9_labelled.npz`"
NOTHING = "Not run yet: "
QUANTILES = (12.7, 4.30, 3.18, 2.78)
"""Standard errors that a mean of 2, 3, 4, 5 differences must have to be told from zero:
Student's distribution, 95 %."""


def read(folder: Path) -> Found:
    """All finished rows with a result."""
    found: Found = {}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["test_mae"] is not None:
            found.setdefault(record["row"], []).append(record)
    every = [record for same in found.values() for record in same]
    lengths = {(record["train_size"], record["epochs"]) for record in every}
    if len(lengths) > 1:
        raise DataError(f"{folder}: runs of one length are compared, got {lengths}")
    for same in found.values():
        same.sort(key=lambda record: int(record["seed"]))
    return found


def tables(folder: Path) -> str:
    """All tables; of one without records, the command that makes it."""
    found = read(folder)
    parts: list[tuple[str, Callable[[Found], str]]] = [
        ("Degree and gate, dipole moment", gates),
        ("Radial functions by degree, dipole moment", bases),
        ("Batch size, polarizability", batches),
        ("Adam and AMSGrad, polarizability", optimisers),
        ("Levels, polarizability", levels),
    ]
    return "\n\n".join(f"**{title}.** {made(found)}" for title, made in parts) + "\n"


def gates(found: Found) -> str:
    """Degree 0, 1, 2 without and with a gate; seeds are compared one by one."""
    lines, words = [], []
    for l in range(3):
        plain, gated = found.get(f"degree-{l}", []), found.get(f"degree-{l}-gate", [])
        both = pairs(plain, gated)
        if both:
            change = [100 * (b / a - 1) for a, b in both]
            lines.append(
                [str(l), mean_of(plain), mean_of(gated), signed(change), cost(gated)]
            )
            words.append(f"degree {l}: {verdict(change)}")
    if not lines:
        return missing(*(f"degree-{l}{end}" for l in range(3) for end in ("", "-gate")))
    head = "degree | MAE without gate [Debye] | with gate | change | weights, CPU s"
    said = f"Does the gate help? {'; '.join(words)}. "
    limits = (
        "One data set of this size, with a norm behind every level and charges as the "
        "read-out: it does not say what a gate does in the published network, nor "
        "after a hundred times as many molecules."
    )
    return rows(head, lines) + "\n\n" + said + limits


def bases(found: Found) -> str:
    """Cosine, Gaussian and Bessel functions; the last are the rows of the gate."""
    lines = []
    for name in ("cosine", "gaussian", "bessel"):
        cells = []
        for l in range(3):
            row = f"degree-{l}" if name == "bessel" else f"basis-{name}-l{l}"
            first = [record for record in found.get(row, []) if record["seed"] == 0]
            cells.append(mean_of(first) if first else "not run")
        lines.append([name, *cells])
    if not any(name.startswith("basis") for name in found):
        kinds = ("cosine", "gaussian")
        return missing(*(f"basis-{kind}-l{l}" for kind in kinds for l in range(3)))
    return rows("functions | degree 0 | 1 | 2", lines) + "\n\n" + one_seed(found)


def batches(found: Found) -> str:
    """Equal passes, so smaller batches take more steps."""
    names = [f"batch-{size}" for size in (8, 16, 32, 64)]
    limits = (
        "All have one learning rate and see each molecule equally often, so a small "
        "batch takes more steps: this says what to take for a number of passes, not "
        "what the batch alone does. "
    )
    return single(found, names, [name[6:] for name in names], "batch", limits)


def optimisers(found: Found) -> str:
    """Adam is the row with batches of 16."""
    return single(found, ["batch-16", "amsgrad"], ["Adam", "AMSGrad"], "optimiser", "")


def levels(found: Found) -> str:
    """More levels than the three of the recipe."""
    names = ["batch-16", "levels-5", "levels-6"]
    limits = "More levels also have more weights and cost more time. "
    return single(found, names, ["3", "5", "6"], "levels", limits)


def single(
    found: Found, names: Sequence[str], titles: Sequence[str], what: str, limits: str
) -> str:
    """A table of rows with one seed each."""
    if not all(name in found for name in names):
        return missing(*(name for name in names if name not in found))
    lines = [
        [
            title,
            mean_of(found[name][:1]),
            f"{found[name][0]['steps']:,}",
            cost(found[name][:1]),
        ]
        for name, title in zip(names, titles, strict=True)
    ]
    errors = [found[name][0]["test_mae"] for name in names]
    best = titles[errors.index(min(errors))]
    worst = 100 * (max(errors) / min(errors) - 1)
    said = f"Least error: {best}; the largest is {worst:.0f} % above it. "
    unit = found[names[0]][0]["unit"]
    head = f"{what} | MAE [{unit}] | steps | weights, CPU s"
    return rows(head, lines) + "\n\n" + said + limits + one_seed(found)


def pairs(
    first: Iterable[dict[str, Any]], second: Iterable[dict[str, Any]]
) -> list[tuple[float, float]]:
    """Errors of the same seeds."""
    other = {record["seed"]: record["test_mae"] for record in second}
    return [(r["test_mae"], other[r["seed"]]) for r in first if r["seed"] in other]


def verdict(change: Sequence[float]) -> str:
    """Whether seeds agree that a change in per cent is one."""
    if len(change) < 2:
        return "one seed does not tell"
    middle = statistics.fmean(change)
    error = statistics.stdev(change) / math.sqrt(len(change))
    if abs(middle) <= QUANTILES[min(len(change), 5) - 2] * error:
        return f"{len(change)} seeds do not tell"
    return f"{'yes' if middle < 0 else 'no, it harms'}, {middle:+.0f} %"


def one_seed(found: Found) -> str:
    """What differences between single runs mean."""
    spread = between_seeds(found)
    if math.isnan(spread):
        return "One seed each: how much seeds differ is not known yet."
    return (
        f"One seed each: rows of the first table differ by {spread:.0f} % between "
        f"seeds (standard deviation), so less than about {3 * spread:.0f} % tells "
        "nothing."
    )


def between_seeds(found: Found) -> float:
    """Standard deviation of a run in per cent of its row's mean, pooled."""
    squares, freedom = 0.0, 0
    for same in found.values():
        errors = [record["test_mae"] for record in same]
        if len(errors) > 1:
            squares += (len(errors) - 1) * (
                statistics.stdev(errors) / statistics.fmean(errors)
            ) ** 2
            freedom += len(errors) - 1
    return 100 * math.sqrt(squares / freedom) if freedom else math.nan


def mean_of(same: Sequence[dict[str, Any]]) -> str:
    """Mean error, with the spread of several seeds."""
    errors = [record["test_mae"] for record in same]
    text = f"{statistics.fmean(errors):.3g}"
    if len(errors) == 1:
        return text
    return f"{text} ± {float(f'{statistics.stdev(errors):.1g}'):g} ({len(errors)})"


def signed(change: Sequence[float]) -> str:
    """Mean change in per cent."""
    return f"{statistics.fmean(change):+.0f} %"


def cost(same: Sequence[dict[str, Any]]) -> str:
    """Weights and mean CPU seconds of training."""
    seconds = statistics.fmean(record["cpu_seconds"] for record in same)
    return f"{same[0]['parameters']:,}, {seconds:.0f} s"


def rows(head: str, lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, on lines of its own."""
    table = [f"| {head} |", "|" + " --- |" * (head.count("|") + 1)]
    return "\n\n" + "\n".join([*table, *(f"| {' | '.join(c)} |" for c in lines)])


def missing(*names: str) -> str:
    """What to run."""
    return f"{NOTHING}{COMMAND} makes it (rows {', '.join(names)} are missing)."
