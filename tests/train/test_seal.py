"""A checkpoint that is not as it was written is not read."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from torch_cormorant.errors import CormorantWarning, DataError
from torch_cormorant.train import AtomicCheckpointIO


@pytest.fixture
def path(tmp_path: Path) -> Path:
    content = {"weights": torch.arange(2000.0), "epoch": 3}
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def damaged(raw: bytes, kind: str, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(raw)), rng.randrange(1, 600)
    if kind == "cut":
        return raw[:start]
    if kind == "zeros":
        return raw[:start] + bytes(len(raw[start:][:length])) + raw[start + length :]
    changed = raw[start] ^ (1 << rng.randrange(8))
    return raw[:start] + bytes([changed]) + raw[start + 1 :]


@pytest.mark.parametrize("kind", ["flip", "zeros", "cut"])
def test_every_damage_to_a_checkpoint_is_noticed(path: Path, kind: str) -> None:
    raw, rng, tried = path.read_bytes(), random.Random(kind), 0
    for _ in range(300):
        changed = damaged(raw, kind, rng)
        if changed == raw:
            continue
        tried += 1
        path.write_bytes(changed)
        with pytest.raises(DataError, match=r"last\.ckpt: damaged"):
            AtomicCheckpointIO().load_checkpoint(path)
    assert tried > 200


def test_the_file_stays_one_that_others_read(path: Path) -> None:
    assert torch.load(path, weights_only=True)["epoch"] == 3
    assert TorchCheckpointIO().load_checkpoint(path, weights_only=True)["epoch"] == 3
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_a_checkpoint_without_a_digest_is_read_with_a_warning(path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"epoch": 2}, stream)
    path.write_bytes(stream.getvalue())
    with pytest.warns(CormorantWarning, match=r"last\.ckpt: has no digest"):
        assert AtomicCheckpointIO().load_checkpoint(path) == {"epoch": 2}
