"""What helps on real data: one change at a time against the recipe, on 2,000 molecules.

Every row trains one network on alpha, gap and U0_atom of QM9 together (normalised,
composition reference subtracted), with equal molecules, order, steps and seed, and is
tested on 1,000 other molecules. Rows are written one by one and skipped when present.

    python -m benchmarks.ablations --npz qm9_labelled.npz
    python -m benchmarks.ablations --table docs/ablations_table.inc
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch_geometric.data import Batch

from benchmarks.records import FOLDER, circumstances
from torch_cormorant import Cormorant, CormorantQM9
from torch_cormorant.data import CompositionBaseline, Molecules, read_qm9, split_indices
from torch_cormorant.train import write_json

TARGETS = ("alpha", "gap", "U0_atom")
SPECIES = (1, 6, 7, 8, 9)
LOSSES = {
    "mse": nn.functional.mse_loss,
    "mae": nn.functional.l1_loss,
    "huber": nn.functional.smooth_l1_loss,
}


@dataclass(frozen=True)
class Row:
    """One setting: what differs from the recipe."""

    title: str
    model: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-3
    cosine: bool = True
    warmup: int = 100
    clip: float = 1.0
    loss: str = "mse"
    calibrate: bool = False
    small_start: float = 1.0
    published: bool = False


ROWS = {
    "recipe": Row("recipe: even paths, SO3Norm, Bessel, envelope at 5 A"),
    "published": Row(
        "published network and rate: all pairs, 5e-4 constant, no clip",
        lr=5e-4,
        cosine=False,
        warmup=0,
        clip=0.0,
        published=True,
    ),
    "published-cosine": Row(
        "published network, the recipe's optimiser", published=True
    ),
    "silu": Row("SiLU instead of LeakyReLU", {"activation": "silu"}),
    "no-norm": Row("no SO3Norm", {"norm": None}),
    "gate": Row("SO3Norm and gate", {"gate": True}),
    "gate-only": Row("gate instead of SO3Norm", {"norm": None, "gate": True}),
    "all-paths": Row("all paths (odd ones too)", {"paths": "all"}),
    "power-trig": Row("published radial functions", {"radial": "power_trig"}),
    "gaussian": Row("Gaussian radial functions", {"radial": "gaussian"}),
    "soft-3": Row("initial soft radii 3 A (1.73 A)", {"soft_radius": 3.0}),
    "soft-4": Row("initial soft radii 4 A (1.73 A)", {"soft_radius": 4.0}),
    "cutoff-4": Row("cutoff 4 A", {"cutoff": 4.0}),
    "cutoff-6": Row("cutoff 6 A", {"cutoff": 6.0}),
    "cutoff-12": Row("cutoff 12 A: all pairs", {"cutoff": 12.0}),
    "extensive": Row("head: sum over atoms, all targets", {"head": "extensive"}),
    "mean": Row("head: mean over atoms, all targets", {"head": "mean"}),
    "attention": Row("head: attention over atoms, all targets", {"head": "attention"}),
    "heads": Row(
        "heads by target: sum, mean, sum",
        {"head": ["extensive", "mean", "extensive"]},
    ),
    "heads-attention": Row(
        "heads by target: sum, attention, sum",
        {"head": ["extensive", "attention", "extensive"]},
    ),
    "heads-published": Row(
        "heads by target: sum, published, sum",
        {"head": ["extensive", "published", "extensive"]},
    ),
    "best": Row(
        "together: SiLU, small start, heads sum, published, sum",
        {"activation": "silu", "head": ["extensive", "published", "extensive"]},
        small_start=0.1,
    ),
    "linear-input": Row("linear input layer", {"input": "linear"}),
    "calibrated": Row("calibrated start", calibrate=True),
    "small-start": Row("last weights a tenth at the start", small_start=0.1),
    "lr-5e-4": Row("learning rate 5e-4", lr=5e-4),
    "lr-2e-3": Row("learning rate 2e-3", lr=2e-3),
    "lr-4e-3": Row("learning rate 4e-3", lr=4e-3),
    "constant": Row("constant learning rate", cosine=False),
    "no-warmup": Row("no warm-up", warmup=0),
    "no-clip": Row("gradients not clipped", clip=0.0),
    "mae-loss": Row("absolute error as the loss", loss="mae"),
    "huber": Row("Huber loss", loss="huber"),
    "lmax-2": Row("lmax 2", {"lmax": 2}),
    "levels-3": Row("three levels", {"num_levels": 3}),
    "channels-32": Row("32 channels", {"channels": 32}),
}


class Part:
    """Batches of one part of the split, with normalised values of all targets."""

    def __init__(self, sets: list[Molecules], index: np.ndarray) -> None:
        chosen = torch.from_numpy(index)
        self.graphs = [sets[0][int(k)] for k in index]
        self.values = torch.stack([s.values.view(-1)[chosen] for s in sets], dim=1)
        self.counts = sets[0].element_counts()[chosen]

    def batch(self, rows: Tensor) -> Batch:
        """The molecules of some rows."""
        return Batch.from_data_list([self.graphs[int(k)] for k in rows])


class References:
    """Composition baseline and scale of every target, from training molecules."""

    def __init__(self, part: Part) -> None:
        self.fit = CompositionBaseline.fit(part.counts, part.values)
        self.std = (part.values - self.sums(part)).std(dim=0)

    def sums(self, part: Part) -> Tensor:
        """What the composition explains."""
        return self.fit.predict(part.counts)

    def normalised(self, part: Part) -> Tensor:
        """What the network learns."""
        return (part.values - self.sums(part)) / self.std


def make_model(row: Row) -> Cormorant:
    """The network of a row."""
    if row.published:
        return CormorantQM9(species=SPECIES, num_targets=len(TARGETS))
    options = {
        "cutoff": 5.0,
        "channels": 16,
        "lmax": 3,
        "num_levels": 4,
        "paths": "even",
        "norm": "norm",
        "radial": "bessel",
        **row.model,
    }
    joined = isinstance(options.get("head"), list)
    count = 1 if joined else len(TARGETS)
    return Cormorant(species=SPECIES, num_targets=count, **options)


def factor(row: Row, step: int, total: int) -> float:
    """Learning rate of a step, as a share of the largest."""
    if step < row.warmup:
        return (step + 1) / (row.warmup + 1)
    if not row.cosine:
        return 1.0
    done = (step - row.warmup) / max(1, total - row.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def predict(model: nn.Module, part: Part, size: int = 100) -> Tensor:
    """Normalised predictions in float64."""
    model.eval()
    with torch.no_grad():
        rows = torch.arange(len(part.graphs)).split(size)
        parts = []
        for k in rows:
            batch = part.batch(k)
            parts.append(model(batch.z, batch.pos, batch.batch, num_graphs=len(k)))
    model.train()
    return torch.cat(parts).double()


def train(row: Row, part: Part, aim: Tensor, args: argparse.Namespace) -> Any:
    """One run; returns the model, its average and the loss of every step."""
    torch.manual_seed(args.seed)
    model = make_model(row)
    if row.small_start != 1.0:
        with torch.no_grad():
            model.head.rescale(row.small_start)
    order = torch.Generator().manual_seed(args.seed)
    count, size = len(part.graphs), args.batch_size
    if row.calibrate:
        rows = torch.randperm(count, generator=torch.Generator().manual_seed(1))
        model.calibrate([part.batch(k) for k in rows[: 4 * size].split(size)])
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimiser = torch.optim.Adam(model.parameters(), lr=row.lr, amsgrad=True)
    total = args.epochs * math.ceil(count / size)
    losses: list[float] = []
    for _ in range(args.epochs):
        for rows in torch.randperm(count, generator=order).split(size):
            batch = part.batch(rows)
            optimiser.param_groups[0]["lr"] = row.lr * factor(row, len(losses), total)
            out = model(batch.z, batch.pos, batch.batch, num_graphs=len(rows))
            loss = LOSSES[row.loss](out, aim[rows].to(out.dtype))
            optimiser.zero_grad()
            loss.backward()
            if row.clip:
                nn.utils.clip_grad_norm_(model.parameters(), row.clip)
            optimiser.step()
            average.update_parameters(model)
            losses.append(float(loss.detach()))
    return model, average, losses


def run_row(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train and test one row."""
    row = ROWS[name]
    sets = [read_qm9(npz=args.npz, target=target) for target in TARGETS]
    split = split_indices(len(sets[0]), args.train_size, 1000, 1000, 0)
    training, _, testing = (Part(sets, part) for part in split.parts)
    references = References(training)
    aim = references.normalised(training)
    started = time.process_time()
    model, average, losses = train(row, training, aim, args)
    seconds = time.process_time() - started

    def errors(net: nn.Module) -> list[float]:
        difference = predict(net, testing) - references.normalised(testing)
        return (difference * references.std).abs().mean(dim=0).tolist()

    baseline = (testing.values - references.sums(testing)).abs().mean(dim=0)
    return {
        "row": name,
        "title": row.title,
        "targets": TARGETS,
        "units": [data.target.unit for data in sets],
        "mae": errors(model),
        "mae_ema": errors(average),
        "composition": baseline.tolist(),
        "first_loss": losses[0],
        "largest_loss": max(losses[10:], default=losses[-1]),
        "last_loss": float(np.mean(losses[-40:])),
        "parameters": sum(p.numel() for p in model.parameters()),
        "cpu_seconds": round(seconds, 1),
        "epochs": args.epochs,
        "train_size": args.train_size,
        "batch_size": args.batch_size,
        "seed": args.seed,
        "split_sha256": split.digest,
        "data_sha256": sets[0].digest,
    } | circumstances("ablations")


AVERAGED = ("recipe", "constant")
"""Rows whose averaged weights (EMA) have a line of their own."""


def table(folder: Path) -> str:
    """All finished rows in Markdown, the recipe first, and the spread between seeds.

    Errors are means over seeds; in brackets the change against the recipe with the same
    seeds.
    """
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ROWS}
    for record in records:
        found[record["row"]].append(record)
    recipe = {record["seed"]: np.array(record["mae"]) for record in found["recipe"]}
    heads = [f"{t} / {u}" for t, u in zip(TARGETS, records[0]["units"], strict=True)]
    head = ["change", *heads, "seeds", "first loss", "largest later"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for name, seeds in found.items():
        if seeds:
            lines.append(_line(seeds[0]["title"], seeds, recipe, "mae"))
        if seeds and name in AVERAGED:
            title = f"{seeds[0]['title'].split(':')[0]}, averaged weights (EMA)"
            lines.append(_line(title, seeds, recipe, "mae_ema"))
    base = [f"{v:.3g}" for v in records[0]["composition"]]
    lines.append(f"| composition alone | {' | '.join(base)} |  |  |  |")
    spread = [f"{v:.2g}" for v in between_seeds(found.values())]
    lines.append(f"| *between seeds* | {' | '.join(spread)} |  |  |  |")
    return "\n".join(lines) + "\n"


def _line(
    title: str, seeds: list[dict[str, Any]], recipe: dict[int, Any], key: str
) -> str:
    """One line of the table."""
    mean = np.mean([r[key] for r in seeds], axis=0)
    same = [np.array(r[key]) / recipe[r["seed"]] for r in seeds if r["seed"] in recipe]
    change = 100 * (np.mean(same, axis=0) - 1) if same else np.zeros(len(mean))
    cells = [f"{v:.3g} ({round(c):+d} %)" for v, c in zip(mean, change, strict=True)]
    if key == "mae" and seeds[0]["row"] == "recipe":
        cells = [f"{v:.3g}" for v in mean]
    first, largest = (max(r[k] for r in seeds) for k in ("first_loss", "largest_loss"))
    rest = [str(len(seeds)), f"{first:.2g}", f"{largest:.2g}"]
    return f"| {' | '.join([title, *cells, *rest])} |"


def between_seeds(rows: Iterable[Sequence[dict[str, Any]]]) -> list[float]:
    """Standard deviation of one run, pooled over all rows with several seeds."""
    several = [np.array([r["mae"] for r in seeds]) for seeds in rows if len(seeds) > 1]
    if not several:
        return [math.nan] * len(TARGETS)
    squares = sum(((one - one.mean(axis=0)) ** 2).sum(axis=0) for one in several)
    freedom = sum(len(one) - 1 for one in several)
    spread: list[float] = np.sqrt(squares / freedom).tolist()
    return spread


def main() -> None:
    """Run the rows that are missing, or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--npz", type=Path, help="QM9 as plain arrays")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--records", type=Path, default=FOLDER / "ablations")
    parser.add_argument("--table", type=Path, help="write the table and stop")
    parser.add_argument("--train-size", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.table:
        args.table.write_text(table(args.records))
        return
    if args.npz is None:
        parser.error("--npz is needed to train")
    torch.set_num_threads(1)
    args.records.mkdir(parents=True, exist_ok=True)
    for name in args.rows:
        path = args.records / f"{name}-{args.seed}.json"
        if path.exists():
            continue
        record = run_row(name, args)
        write_json(path, record)
        print(name, record["mae"], record["mae_ema"], record["cpu_seconds"], flush=True)


if __name__ == "__main__":
    main()
