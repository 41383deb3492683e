"""The table and the figure of the results page, from the records in ``docs/records``.

Every record is the ``results.json`` of one call of ``examples/qm9.py``.

    python docs/learning_curves.py > docs/results_table.inc
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

RECORDS = Path(__file__).parent / "records"
STYLES = {"published": ("#2c6fad", "as published"), "recipe": ("#d9722b", "recipe")}
LINES = {1000: "--", 5000: "-"}
NAMES = {"alpha": r"$\alpha$", "U0_atom": r"$U_0$, atomisation"}


def records() -> list[dict[str, Any]]:
    """All records, ordered by target, size and model."""
    paths = sorted(RECORDS.glob("*.json"))
    return sorted((_named(json.loads(path.read_text())) for path in paths), key=_key)


def _named(record: dict[str, Any]) -> dict[str, Any]:
    """A record of today under the names of those that were made first."""
    if "test_mae" in record:
        return record
    ((target, errors),) = record["test"].items()
    settings = record["settings"]
    return {
        **record,
        "settings": {**settings, "target": target, "model": settings["network"]},
        "split": {"sizes": record["data"]["sizes"]},
        "test_mae": errors,
    }


def _key(record: dict[str, Any]) -> tuple[str, int, str]:
    settings = record["settings"]
    return settings["target"], record["split"]["sizes"][0], settings["model"]


def table() -> str:
    """The errors as a Markdown table."""
    head = (
        "target | training molecules | network | epochs | ours | composition | mean | "
        "unit | time"
    )
    count = head.count("|") + 1
    lines = [f"| {head} |", "|" + " --- |" * count]
    for record in records():
        settings, errors = record["settings"], record["test_mae"]
        cells = [
            settings["target"],
            f"{record['split']['sizes'][0]:,}",
            STYLES[settings["model"]][1],
            str(settings["epochs"]),
            f"**{errors['ours']:.3g}**",
            f"{errors['composition_least_squares']:.3g}",
            f"{errors['training_mean']:.4g}",
            errors["unit"].replace("bohr^3", "bohr³"),
            f"{record['seconds'] / 60:.0f} min",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def commands() -> str:
    """The command of every run."""
    lines = [record["command"] for record in records()]
    return "```sh\n" + "\n".join(lines) + "\n```"


def learning_curves() -> Figure:
    """Validation error of every epoch against the optimiser steps taken."""
    runs = records()
    targets = sorted({record["settings"]["target"] for record in runs})
    figure, axes = plt.subplots(1, len(targets), figsize=(9.0, 3.6), squeeze=False)
    for axis, target in zip(axes[0], targets, strict=True):
        chosen = [record for record in runs if record["settings"]["target"] == target]
        for record in chosen:
            _draw(axis, record)
        errors = chosen[-1]["test_mae"]
        axis.axhline(
            errors["composition_least_squares"], color="#8a8f98", lw=1, zorder=0
        )
        axis.annotate(
            "least squares on the composition",
            (1.0, errors["composition_least_squares"]),
            xycoords=("axes fraction", "data"),
            xytext=(-4, -3),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8,
            color="#5f656d",
        )
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_title(NAMES.get(target, target))
        axis.set_xlabel("optimiser steps (batches of 25)")
        unit = errors["unit"].replace("bohr^3", "bohr³")
        axis.set_ylabel(f"validation MAE [{unit}]")
        axis.spines[["top", "right"]].set_visible(False)
    handles = {
        label: line
        for axis in axes[0]
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.legend(
        handles.values(),
        handles,
        loc="lower center",
        ncols=4,
        frameon=False,
        fontsize=8,
    )
    return figure


def _draw(axis: Any, record: dict[str, Any]) -> None:
    settings, size = record["settings"], record["split"]["sizes"][0]
    colour, name = STYLES[settings["model"]]
    steps = -(-size // settings["batch_size"])
    axis.plot(
        [row["epoch"] * steps for row in record["epochs"]],
        [row["valid_mae"] for row in record["epochs"]],
        color=colour,
        ls=LINES.get(size, ":"),
        lw=1.6,
        label=f"{name}, {size:,} molecules",
    )


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n\nThe commands:\n\n{commands()}\n")
