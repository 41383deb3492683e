"""Shards: one file of frames for some structures of a class, and all of them joined."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from organic_gfn2.classes import CLASSES, Request
from organic_gfn2.gfn2 import Labelled, label
from organic_gfn2.molecules import UnusableError, quiet
from organic_gfn2.splits import part_of_frame

TEXTS = {
    "level_of_theory": "GFN2-xTB",
    "units": "pos Angstrom; energy eV; forces eV/Angstrom",
}
PACKAGES = ("tblite", "rdkit", "numpy")


@dataclass(frozen=True)
class Task:
    """Structures ``first`` to ``last`` (not included) of a class."""

    kind: str
    first: int
    last: int
    seed: int
    qm9: Path
    out: Path

    @property
    def path(self) -> Path:
        """File of the frames."""
        return self.out / f"{self.kind}-{self.first:05d}-{self.last:05d}.npz"

    @property
    def record(self) -> Path:
        """File that says what is in it; it is written last."""
        return self.path.with_suffix(".json")


def settings(seed: int, scale: float, qm9: Path) -> dict[str, Any]:
    """What frames depend on; a folder holds shards of one setting only."""
    return {
        "seed": seed,
        "scale": scale,
        "qm9_sha256": digest(qm9),
        "versions": {name: version(name) for name in PACKAGES},
        "units": TEXTS["units"],
        "level_of_theory": TEXTS["level_of_theory"],
    }


def tasks(
    kinds: Iterable[str], scale: float, seed: int, qm9: Path, out: Path
) -> list[Task]:
    """Shards of these classes, largest classes in turns with the others."""
    found: list[tuple[float, Task]] = []
    for name in kinds:
        kind = CLASSES[name]
        count = kind.structures if kind.whole else math.ceil(kind.structures * scale)
        for first in range(0, count, kind.chunk):
            last = min(first + kind.chunk, count)
            found.append((first / count, Task(name, first, last, seed, qm9, out)))
    return [task for _, task in sorted(found, key=lambda pair: pair[0])]


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def saved(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    texts = {name: np.array(text) for name, text in TEXTS.items()}
    with part.open("wb") as stream:
        np.savez_compressed(stream, **arrays, **texts)
    part.replace(path)


def structure(task: Task, number: int) -> Labelled:
    """One structure; its random numbers depend on seed, class and number alone."""
    kind = CLASSES[task.kind]
    rng = np.random.default_rng([task.seed, zlib.crc32(task.kind.encode()), number])
    try:
        made = kind.make(Request(number, kind.frames, rng, task.qm9))
    except (RuntimeError, ValueError) as error:  # of tblite's SCF or of RDKit
        raise UnusableError(type(error).__name__) from error
    return label(made.name, made.z, made.frames)


def make(task: Task) -> dict[str, Any]:
    """Make a shard, or take the one that is there; what is in it."""
    if task.record.exists():
        return dict(json.loads(task.record.read_text(encoding="utf-8")))
    quiet()
    start, found, lost = time.process_time(), [], Counter[str]()
    for number in range(task.first, task.last):
        try:
            found.append(structure(task, number))
        except UnusableError as error:
            lost[str(error)] += 1
    arrays = flat(task.kind, found)
    saved(task.path, arrays)
    record = {
        "class": task.kind,
        "structures": [task.first, task.last],
        "frames": len(arrays["energy"]),
        "atoms": len(arrays["z"]),
        "molecules": sorted({one.name for one in found}),
        "dropped_frames": dict(sum((one.dropped for one in found), Counter())),
        "unusable_structures": dict(lost),
        "cpu_seconds": round(time.process_time() - start, 2),
        "sha256": digest(task.path),
    }
    written(task.record, json.dumps(record))
    return record


def flat(kind: str, found: list[Labelled]) -> dict[str, NDArray[Any]]:
    """Frames one after the other, as ``read_npz`` takes them."""
    counts = [len(one.energy) for one in found]
    sizes = np.repeat([len(one.z) for one in found], counts)
    none = np.zeros((0, 3))

    def rows(values: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([none, *(each.reshape(-1, 3) for each in values)])

    tiled = [np.tile(one.z, n) for one, n in zip(found, counts, strict=True)]
    return {
        "z": np.concatenate([np.zeros(0), *tiled]).astype(np.uint8),
        "pos": rows([one.pos for one in found]),
        "offset": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "energy": np.concatenate([np.zeros(0), *(one.energy for one in found)]),
        "forces": rows([one.forces for one in found]).astype(np.float32),
        "kind": np.repeat(np.array([kind]), sum(counts)),
        "molecule": np.repeat(np.array([one.name for one in found], str), counts),
    }


def manifest(setting: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of each class, and every shard with its digest."""
    classes: dict[str, Any] = {}
    for record in records:
        total = classes.setdefault(record["class"], Counter())
        total.update({k: record[k] for k in ("frames", "atoms", "cpu_seconds")})
        total.update({f"dropped: {k}": n for k, n in record["dropped_frames"].items()})
        total.update(
            {f"unusable: {k}": n for k, n in record["unusable_structures"].items()}
        )
    for total in classes.values():
        seconds = max(total["cpu_seconds"], 0.01)
        total["frames_per_cpu_second"] = round(total["frames"] / seconds, 1)
    return {"settings": setting, "classes": classes, "shards": records}


def joined(paths: list[Path]) -> dict[str, NDArray[Any]]:
    """All frames in one file, with the part of each in ``split``.

    Isolated atoms also become ``isolated_z`` and ``isolated_energy``.
    """
    held = [dict(np.load(path, allow_pickle=False)) for path in paths]
    each = ("z", "pos", "energy", "forces", "kind", "molecule")
    arrays = {name: np.concatenate([one[name] for one in held]) for name in each}
    sizes = np.concatenate([np.diff(one["offset"]) for one in held])
    kinds, names = arrays["kind"].tolist(), arrays["molecule"].tolist()
    words = [
        part_of_frame(name, CLASSES[kind].held_out)
        for name, kind in zip(names, kinds, strict=True)
    ]
    arrays["offset"] = np.concatenate([[0], np.cumsum(sizes)])
    arrays["split"] = np.array(words)
    alone = arrays["kind"] == "atoms"
    if alone.any():
        arrays["isolated_z"] = arrays["z"][arrays["offset"][:-1][alone]]
        arrays["isolated_energy"] = arrays["energy"][alone]
    return arrays


def one_thread() -> None:
    """Workers are processes; sums of more threads would change their last bit."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
