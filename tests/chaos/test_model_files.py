"""Damaged model files: always a typed error, quickly, never half a network."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from torch_cormorant import Cormorant, load_model, save_model
from torch_cormorant.errors import ModelFileError

MUTATIONS = 400


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("models")
    raw = []
    for channels in (3, 4):
        model = Cormorant(
            (1, 8), num_levels=1, lmax=1, channels=channels, hidden=4, middle=4
        )
        save_model(folder / "a", model, targets=["gap"], units=["eV"])
        raw.append((folder / "a").read_bytes())
    return raw[0], raw[1]


def flip(raw: bytes, other: bytes, rng: random.Random) -> bytes:
    del other
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(raw: bytes, other: bytes, rng: random.Random) -> bytes:
    del other
    return raw[: rng.randrange(len(raw))]


def zeros(raw: bytes, other: bytes, rng: random.Random) -> bytes:
    del other
    start = rng.randrange(len(raw))
    length = rng.randrange(1, 400)
    return raw[:start] + bytes(len(raw[start : start + length])) + raw[start + length :]


def swap(raw: bytes, other: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.sample(range(len(raw) + 1), 2))
    if raw[start:end] == other[start:end]:
        return raw[:start] + raw[end:] + other
    return raw[:start] + other[start:end] + raw[end:]


@pytest.mark.parametrize("mutate", [flip, truncate, zeros, swap])
def test_every_damage_is_noticed(
    files: tuple[bytes, bytes],
    tmp_path: Path,
    mutate: Callable[[bytes, bytes, random.Random], bytes],
) -> None:
    rng, path = random.Random(mutate.__name__), tmp_path / "damaged"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tried = 0
    for _ in range(MUTATIONS):
        damaged = mutate(*files, rng)
        if damaged in files:
            continue
        tried += 1
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            load_model(path)
    assert tried > 0.9 * MUTATIONS
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert grown < 256 * 1024, "kilobytes"
