"""Take the potential of ethanol to another molecule, with few frames of it.

    python examples/fine_tuning.py --data rmd17_malonaldehyde.npz

The file is that of revised MD17 (``cormorant datasets md17``). The same network is
trained from scratch, from the ethanol potential, with its first level frozen, and with
frames of ethanol beside the new ones: equally many steps, the same 50 frames. Printed
are the errors on the new molecule, and what each has forgotten of ethanol.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch_cormorant import load_model
from torch_cormorant.data import Frames, MiniEthanol, write_extxyz
from torch_cormorant.models import Potential
from torch_cormorant.train import fit, frame_errors, make_config

MODEL = Path(__file__).parent / "models" / "ethanol.safetensors"
REPLAYED = 50
WAYS: dict[str, dict[str, Any]] = {
    "from scratch": {},
    "from ethanol": {"start": str(MODEL)},
    "from ethanol, input and first level frozen": {
        "start": str(MODEL),
        "freeze": ["input", "convs.0"],
    },
    "from ethanol, 50 frames of it beside": {
        "start": str(MODEL),
        "replay": {"ethanol": {"source": "extxyz", "weight": 1.0, "train": REPLAYED}},
    },
}
KNOWN, UNKNOWN = slice(950), slice(1000, 2000)
"""Frames of ethanol that the old potential was trained on, and others."""


def main() -> None:
    """Train in every way, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="npz file of revised MD17")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--lr", type=float, nargs="+", default=[2e-3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--records", type=Path, help="JSON file to write")
    args = parser.parse_args()
    old, ethanol = load_model(MODEL), MiniEthanol()[UNKNOWN]
    before = errors(old, ethanol)
    rows = [
        {"way": way, "lr": lr, "seed": seed, **trained(args, old, way, lr, seed)}
        for way in WAYS
        for lr in args.lr
        for seed in args.seeds
    ]
    found = {"before": before, "frames": args.frames, "steps": args.steps, "runs": rows}
    if args.records:
        args.records.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def table(found: dict[str, Any]) -> str:
    """The errors as Markdown, in meV and meV/Å."""
    heads = (
        "start, rate | energy MAE | force MAE | ethanol: force MAE after | CPU s",
        "--- | ---: | ---: | ---: | ---:",
    )
    before = found["before"]["force_mae"]
    rows = [f"the ethanol potential before | | | {before * 1e3:.0f} | "]
    rows += [
        f"{row['way']}, {row['lr']:g} | {row['energy_mae'] * 1e3:.0f} | "
        f"{row['force_mae'] * 1e3:.0f} | {row['old_force_mae'] * 1e3:.0f} | "
        f"{row['cpu_seconds']:.0f}"
        for row in sorted(found["runs"], key=_place)
    ]
    return "\n".join(f"| {row} |" for row in (*heads, *rows)) + "\n"


def _place(row: dict[str, Any]) -> tuple[int, float]:
    return list(WAYS).index(row["way"]), row["lr"]


def trained(
    args: argparse.Namespace, old: Any, way: str, lr: float, seed: int
) -> dict[str, float]:
    """Train in one way; errors on the new molecule and on the old one."""
    training = copy.deepcopy(WAYS[way])
    model: dict[str, Any] = {}
    if not training:
        names = ("channels", "num_levels", "lmax", "cutoff", "hidden", "num_basis")
        options = {name: old.config[name] for name in (*names, "repulsion")}
        model = {"network": "potential", "options": options}
    shown, batch = args.frames + REPLAYED * ("replay" in training), 5
    config = make_config(
        {
            "data": {
                "source": "md17",
                "path": args.data,
                "unit": "eV",
                "train": args.frames,
                "valid": 50,
                "test": args.test,
            },
            "model": model,
            "loss": {"energy": 20.0, "forces": 100.0},
            "training": {
                "epochs": max(1, args.steps * batch // shown),
                "batch_size": batch,
                "lr": lr,
                "ema": 0.99,
                "seed": seed,
                **training,
            },
            "output": {"report": False},
        }
    )
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        if "replay" in training:
            path = Path(folder) / "old.extxyz"
            write_extxyz(path, MiniEthanol()[KNOWN])
            config.training.replay["ethanol"]["path"] = str(path)
        fitted = fit(config, Path(folder) / "run")
    seconds = time.process_time() - start
    test: Any = fitted.record["test"]
    network: Any = fitted.module.network
    if training:  # ethanol has the references of its own level of theory
        network.info = replace(network.info, normalisation=old.info.normalisation)
    forgotten = errors(network, MiniEthanol()[UNKNOWN])
    return {
        "energy_mae": test["energy_mae"],
        "force_mae": test["force_mae"],
        "old_energy_mae": forgotten["energy_mae"],
        "old_force_mae": forgotten["force_mae"],
        "cpu_seconds": seconds,
    }


def errors(model: Any, frames: Frames) -> dict[str, float]:
    """Errors of energies and forces."""
    found = Potential.of(model).evaluate_all(list(frames))
    return frame_errors(frames, frames, found).values


if __name__ == "__main__":
    main()
