"""Put trained weights into the package, under a name.

    python scripts/pack_pretrained.py runs/organic organic-gfn2 \
        --about "energies and forces of organic molecules" --data organic-gfn2.npz
    python scripts/pack_pretrained.py runs/qm9/model.safetensors qm9 \
        --about "twelve properties of small organic molecules" --large-bits 7

The run is a model file or the folder of a training with several seeds. Weights are
written in float32, of whose 23 bits behind the point ``--bits`` are kept (a relative
change of 1e-4 at most, and a wheel that is a third smaller), ``--large-bits`` in
tensors of more than 2,000 numbers; what float16 holds exactly is stored so. What only a
training needs is left out. Each file comes with its provenance: command, configuration,
digest of the data, level of theory, elements, errors, and the charges and unpaired
electrons that it knows.

``--data`` names frames that are divided into parts: errors are those of the whole
ensemble on ``test`` and ``held_out``, and where the run has no calibration it is
measured on ``valid``. Without it errors are those that the training found, of an
ensemble those of its mean.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from torch_cormorant.data import Frames, frame_parts, read_npz
from torch_cormorant.data.describe import symbol
from torch_cormorant.models import (
    Ensemble,
    Potential,
    Together,
    load_models,
    save_model,
)
from torch_cormorant.models.domain import KEY
from torch_cormorant.models.loading import Loaded
from torch_cormorant.models.measures import RECORD, write_measures
from torch_cormorant.models.shipped import ABOUT, FOLDERS

LIMIT = 2_000_000  # bytes in a wheel
LARGE = 2000  # numbers of a tensor
KEPT = ("command", "data", "compositions", "seed", "parameters", "best_epoch")
KEPT = (*KEPT, "test", "seconds", "versions")
PLACES = re.compile(r"(?:(?<=[\s=])|^)/\S*/")
"""Folders of this machine, as they stand in a command."""


def some(data: Frames, count: int) -> list[Any]:
    """At most so many frames, evenly over the set."""
    rows = torch.linspace(0, len(data) - 1, min(count, len(data))).long().unique()
    return [data[row] for row in rows.tolist()]


def shortened(model: torch.nn.Module, bits: int, large: int) -> None:
    """Round weights to so many bits behind the point, so that they compress."""
    for weight in model.parameters():
        unit = 1 << (23 - (large if weight.numel() > LARGE else bits))
        whole = weight.detach().float().view(torch.int32)
        whole = (whole + unit // 2) & -unit
        weight.data = whole.view(torch.float32).to(weight.dtype)


def measured(model: Any, rows: list[Any]) -> str:
    """Mean absolute errors of a potential, with units."""
    out = model.evaluate_all(rows)
    sizes = torch.tensor([len(row.z) for row in rows])
    wrong = (out.energy - torch.cat([row.energy for row in rows])).abs()
    forces = (out.forces - torch.cat([row.forces for row in rows])).abs()
    return (
        f"{1000 * float((wrong / sizes).mean()):.2f} meV/atom, "
        f"{1000 * float(forces.mean()):.1f} meV/Angstrom ({len(rows):,} frames)"
    )


def errors_on(model: Loaded, path: Path, count: int) -> dict[str, str]:
    """Errors on the parts of a file that nothing was trained on."""
    potential: Any = model if isinstance(model, Ensemble) else Potential.of(model)
    if isinstance(model, Ensemble):
        model.warns = "never"
    there = [part for part in ("test", "held_out") if part in frame_parts(path)]
    return {
        f"{part.replace('_', ' ')}:": measured(
            potential, some(read_npz(path, part), count)
        )
        for part in there
    }


def errors_of_record(training: dict[str, Any]) -> dict[str, str]:
    """Errors that a training has found on its test molecules."""
    found = training.get("test", {})
    rows = {name: one for name, one in found.items() if isinstance(one, dict)}
    return {name: f"{one['ours']:.4g} {one['unit']}" for name, one in rows.items()}


def errors_of_mean(run: Path, targets: Sequence[str]) -> dict[str, str]:
    """Errors of an ensemble of properties that its training has found."""
    held = json.loads((run / RECORD).read_text(encoding="utf-8")).get("targets", {})
    rows = {name: held[name] for name in targets if name in held}
    return {k: f"{one['mae_of_mean']:.4g} {one['unit']}" for k, one in rows.items()}


def size_in_wheel(folder: Path) -> int:
    """Bytes of the files, compressed as a wheel does it."""
    return sum(len(zlib.compress(path.read_bytes(), 9)) for path in folder.iterdir())


def record_of(
    model: Any, given: argparse.Namespace, errors: dict[str, str]
) -> dict[str, Any]:
    """Provenance of one model, without the places of files."""
    held = dict(model.info.training)
    found = {name: held[name] for name in KEPT if name in held}
    config = json.loads(json.dumps(held.get("config", {})))
    for section, name in (("data", "path"), ("training", "start")):
        if config.get(section, {}).get(name):
            config[section][name] = Path(config[section][name]).name
    found["command"] = PLACES.sub("", str(found.get("command", "")))
    domain = {"charge": given.charge, "unpaired": given.unpaired}
    return {**found, "config": config, "errors": errors, KEY: domain}


def pack(given: argparse.Namespace) -> Path:
    """Write the folder; it replaces one of this name."""
    model = load_models(given.run)
    several = isinstance(model, (Ensemble, Together))
    members: list[Any] = list(model.models) if several else [model]
    for member in members:
        shortened(member, given.bits, given.large_bits or given.bits)
    if isinstance(model, Ensemble) and given.data and not model.limits:
        model.calibrate(some(read_npz(given.data, "valid"), given.frames))
    errors: dict[str, str] = {}
    for member in members if isinstance(model, Together) else members[:1]:
        errors |= errors_of_record(dict(member.info.training))
    if isinstance(model, Ensemble) and (given.run / RECORD).exists():
        errors = errors_of_mean(given.run, members[0].info.targets) or errors
    if given.data:
        errors = errors_on(model, given.data, given.frames)
    folder = given.out / given.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, member in enumerate(members):
        record = record_of(member, given, errors)
        member.info = replace(member.info, training=record)
        place = folder / f"member-{number}.safetensors"
        save_model(place, member.float(), compact=True)
    if isinstance(model, Ensemble):
        write_measures(folder / RECORD, model.factors, model.limits)
    network, data = getattr(members[0], "network", members[0]), record.get("data", {})
    about = {
        "description": given.about,
        "level_of_theory": given.theory or data.get("level_of_theory", "unknown"),
        "elements": [symbol(z) for z in sorted(network.features.known)],
        "charge": given.charge,
        "unpaired": given.unpaired,
        "errors": errors,
        "data": {name: data[name] for name in ("name", "sha256") if name in data},
    }
    text = json.dumps(about, indent=1) + "\n"
    (folder / ABOUT).write_text(text, encoding="utf-8")
    return Path(folder)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, help="model file, or folder of a training with several seeds")
    add("name", help="what the weights are asked for by")
    add("--about", required=True, help="what they predict, in a line")
    add("--theory", default="", help="level of theory; default that of the data")
    add("--data", type=Path, help="npz of frames in parts, for errors")
    add("--frames", type=int, default=2000, help="of a part, for errors; default 2000")
    bits: Any = {"type": int, "choices": range(4, 24), "metavar": "BITS"}
    add("--bits", **bits, default=12, help="kept of a weight's 23; default 12")
    add("--large-bits", **bits, help="of large tensors; default: as --bits")
    add("--charge", type=int, nargs=2, default=[0, 0], metavar=("LOW", "HIGH"))
    add("--unpaired", type=int, default=0, help="most unpaired electrons; default 0")
    add("--out", type=Path, default=FOLDERS[0], help="default: the package's own")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Pack, and say how large it is."""
    folder = pack(parse(argv))
    size = size_in_wheel(folder)
    print(f"{folder}: {size / 1e6:.2f} MB in a wheel")
    if size > LIMIT:
        raise SystemExit(f"more than {LIMIT / 1e6:g} MB: train a smaller network")


if __name__ == "__main__":
    main()
