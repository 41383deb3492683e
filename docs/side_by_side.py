"""Tables of the family side by side, from ``docs/records/side_by_side``.

Records are those of ``benchmarks.learning_curves``, ``benchmarks.force_training`` and
``benchmarks.edge_costs``, all with their files in that folder; the page names the
commands. What is not there is named as missing.

    python docs/side_by_side.py        # writes docs/side_by_side_*.inc
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
RECORDS = HERE / "records" / "side_by_side"
Record = dict[str, Any]


class Row(NamedTuple):
    """A network: its class, operator and cost in symbols, and its names in records."""

    kind: str
    messages: str
    network: str
    operator: str
    cost: str
    forces: str = ""


FULL = "MLP + $\\sum_p C (T_p + D_p C')$"
DEPTHWISE = "MLP + $C (T + D)$"
STEERABLE = "$(2 C + 1) (T + D C')$"
KERNEL = "KernelConv"
ROWS: dict[str, Row] = {
    "ours-schnet": Row("regular", "linear", "SchNet", "TensorFieldConv", "MLP + $2 F$"),
    "ours-l0net": Row("regular", "linear", "L0Net", KERNEL, FULL),
    "ours-tfn": Row("steerable", "linear", "TFN", "TensorFieldConv", DEPTHWISE),
    "ours-se3-tfn": Row(
        "steerable", "linear", "TFN of SE3Transformer", "SE3KernelConv", FULL
    ),
    "ours-l1net": Row("steerable", "linear", "L1Net", KERNEL, FULL),
    "ours-l2net": Row("steerable", "linear", "L2Net", KERNEL, FULL),
    "ours-arandnet": Row("steerable", "linear", "ARandNet", KERNEL, FULL),
    "ours-brandnet": Row("steerable", "linear", "BRandNet", KERNEL, FULL),
    "ours-nequip": Row("steerable", "linear", "NequIP", "NequIPConv", DEPTHWISE),
    "ours-so3net": Row(
        "steerable", "linear", "SO3Net", "SO3Conv", "$B (L + 1) C + C (T + D)$"
    ),
    "ours-seconv-linear": Row(
        "steerable", "linear", "SEGNN, linear layers", "SEConv", STEERABLE
    ),
    "nbody": Row("steerable", "linear", "NBodyNetwork", "NBodyConv", "MLP + $R C T$"),
    "ours-painn": Row(
        "steerable", "pseudo-linear", "PaiNN", "PaiNNConv", "$3 B C + 9 C$"
    ),
    "real": Row(
        "steerable",
        "pseudo-linear",
        "Cormorant, recipe",
        "CormorantConv",
        "$\\sum_l K_l C + C (2 (L + 1)^2 + T)$",
        forces="cormorant-tuned",
    ),
    "ours-se3": Row(
        "steerable",
        "pseudo-linear",
        "SE3Transformer",
        "SE3TransformerConv",
        f"2 ({FULL}) + $2 C (L + 1)^2$",
    ),
    "ours-seconv": Row(
        "steerable",
        "non-linear",
        "SEGNN, SEConv layers",
        "SEConv",
        f"{STEERABLE} + $C (T + D C')$",
    ),
    "ours-segnn": Row(
        "steerable",
        "non-linear",
        "SEGNN",
        "SEGNNConv",
        f"{STEERABLE} + $C (T + D C')$",
    ),
    "ours-allegro": Row(
        "steerable",
        "non-linear, on edges",
        "Allegro",
        "AllegroBlock",
        "MLP + $C ((L + 1)^2 + T + D)$",
    ),
}
TARGETS = ("alpha", "mu", "U0_atom")
MISSING = "Not measured yet: the commands below make the records."


def read(kind: str) -> list[Record]:
    """All records whose kind begins so."""
    paths = sorted(RECORDS.glob("*.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [record for record in found if record["kind"].startswith(kind)]


def joined(found: Iterable[Record], key: str) -> dict[str, float]:
    """A mapping by network, of all records together."""
    return {k: v for record in found for k, v in record[key].items()}


def table(head: str, lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [f"| {head} |", "|" + " --- |" * (head.count("|") + 1)]
    return "\n".join([*rows, *(f"| {' | '.join(cells)} |" for cells in lines)])


def classes() -> str:
    """Class, operator, cost counted and measured of every network."""
    counted = {
        k: v for record in read("multiply") for k, v in record["counted"].items()
    }
    speed = read("CPU seconds of a training step")
    steps = {k: v for record in speed for k, v in record["median"].items()}
    lines = []
    for name, row in ROWS.items():
        seconds = steps.get(name)
        place = "" if row.operator == "CormorantConv" else "conv."  # as documented
        operator = f"{{class}}`~torch_cormorant.{place}{row.operator}`"
        number = f"{counted[name]:,}" if name in counted else "-"
        time = "-" if seconds is None else f"{1e3 * seconds:.0f}"
        lines.append(
            [row.kind, row.messages, row.network, operator, row.cost, number, time]
        )
    head = "class | messages | network | operator | an edge | counted | ms a step"
    return table(head, lines) + "".join(f"\n\n{state(record)}" for record in speed)


def state(record: Record) -> str:
    """Where and how steps were measured."""
    return (
        f"Steps: CPU time on one thread of {record['hardware']['cpu']}, median of "
        f"{record['rounds']}, all networks in turns, commit {record['commit']}; load of"
        f" the machine {record['load']} at the end."
    )


def errors() -> str:
    """Test errors at equal molecules and CPU time, one table for each budget."""
    runs = [r for r in read("learning curve") if r["model"] in ROWS]
    groups = sorted({(r["train_size"], r["budget_cpu_seconds"]) for r in runs})
    parts = [of_group(runs, size, seconds) for size, seconds in groups]
    return "\n\n".join([*(parts or [MISSING]), forces()])


def of_group(runs: Sequence[Record], size: int, seconds: float) -> str:
    """Errors of all targets; steps are those of the first target."""
    here = {
        (r["model"], r["target"]): r
        for r in runs
        if (r["train_size"], r["budget_cpu_seconds"]) == (size, seconds)
    }
    targets = [t for t in TARGETS if any(target == t for _, target in here)]
    lines = []
    for name, row in ROWS.items():
        mine = [here.get((name, target)) for target in targets]
        known = [run for run in mine if run]
        if known:
            first = known[0]
            cells = [row.network, f"{first['parameters']:,}", f"{first['steps']:,}"]
            best = [least(here, target) for target in targets]
            lines.append([*cells, *map(shown, mine, best)])
    units = [next(r["unit"] for (_, t), r in here.items() if t == k) for k in targets]
    named = [f"{t} [{u}]" for t, u in zip(targets, units, strict=True)]
    last = [f"{baseline(here, target):.3g}" for target in targets]
    lines.append(["*composition alone*", "", "", *last])
    title = f"**{size:,} molecules, {seconds:g} CPU seconds of training.**"
    head = " | ".join(["network", "weights", "steps", *named])
    return f"{title}\n\n{table(head, lines)}"


def least(here: dict[tuple[str, str], Record], target: str) -> float | None:
    """Smallest error of a target."""
    found = [r["test_mae"] for (_, t), r in here.items() if t == target]
    return min((error for error in found if error is not None), default=None)


def baseline(here: dict[tuple[str, str], Record], target: str) -> float:
    """Error of the fit to the composition."""
    return next(
        r["baselines"]["composition"] for (_, t), r in here.items() if t == target
    )


def shown(run: Record | None, best: float | None) -> str:
    """An error, bold where it is the smallest."""
    if run is None:
        return "not run"
    if run["test_mae"] is None:
        return "diverged"
    text = f"{run['test_mae']:.3g}"
    return f"**{text}**" if run["test_mae"] == best else text


def forces() -> str:
    """Errors of energies and forces of ethanol."""
    runs = [r for r in read("potential") if r["set"] == "ethanol" and r["test"]]
    found = {run["model"]: run for run in runs}
    lines = []
    for name, row in ROWS.items():
        run = found.get(row.forces or name)
        if run:
            values = next(iter(run["test"].values()))
            cells = [row.network, f"{run['parameters']:,}", f"{run['steps']:,}"]
            numbers = [f"{values[k]:.1f}" for k in ("energy_mae", "force_mae")]
            lines.append([*cells, *numbers, f"{1e3 * run['cpu_seconds_per_step']:.0f}"])
    title = "**Ethanol of revised MD17, energies and forces.**"
    if not lines:
        return f"{title} {MISSING}"
    head = "network | weights | steps | energy [meV] | forces [meV/Å] | ms a step"
    budget = f"{runs[0]['budget_cpu_seconds']:g} CPU seconds of training."
    return f"{title} {budget}\n\n" + table(head, lines)


def main() -> None:
    """Write the parts that the page includes."""
    for name, made in (("classes", classes), ("errors", errors)):
        path = HERE / f"side_by_side_{name}.inc"
        path.write_text(made() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
