"""kill -9 at any moment, a full disk, a folder that cannot be written (R26)."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from torch_cormorant import Cormorant, load_model, save_model
from torch_cormorant.data.files import write_atomically
from torch_cormorant.errors import DataError
from torch_cormorant.train import AtomicCheckpointIO, RunFolder

KILLS = 120


def save_for_ever(path: Path, start: int, connection: Connection) -> None:
    """Save one checkpoint after the other, and tell about each."""
    io, weights = AtomicCheckpointIO(), torch.zeros(20_000)
    for step in range(start, 1_000_000):
        io.save_checkpoint({"step": step, "weights": weights.fill_(step)}, path)
        connection.send(step)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_killed_save_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    # Forked, as starting Python anew would take seconds for each kill. Nothing but
    # saving happens in the child, so a kill at a random time hits a save nearly always.
    context, rng = get_context("fork"), random.Random(0)
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    last = during = 0
    for _ in range(KILLS):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=save_for_ever, args=(path, last + 1, theirs))
        child.start()
        theirs.close()
        known = ours.recv()
        time.sleep(rng.uniform(0, 0.003))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        while True:
            try:
                known = ours.recv()
            except EOFError:
                break
        found = io.load_checkpoint(path)
        # What was reported as saved is there; at most the save that was cut is more.
        assert found["step"] in {known, known + 1}
        assert bool((found["weights"] == found["step"]).all())
        litter = [file.name for file in tmp_path.iterdir() if file != path]
        assert len(litter) <= 1, "the next save removes what a kill left"
        during += bool(litter) or found["step"] > known
        last = found["step"]
    assert during >= KILLS // 2, f"only {during} of {KILLS} kills hit a save"
    io.save_checkpoint({"step": 0}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Files cannot grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_keeps_the_old_files(tmp_path: Path) -> None:
    model = Cormorant(num_levels=1, lmax=1, channels=4)
    save_model(tmp_path / "model", model, training={"step": 1})
    io = AtomicCheckpointIO()
    io.save_checkpoint({"step": 1, "weights": torch.zeros(50_000)}, tmp_path / "last")
    with full_disk(10_000):
        with pytest.raises(OSError, match="large") as caught:
            save_model(tmp_path / "model", model, training={"step": 2})
        assert caught.value.errno == errno.EFBIG
        # torch reports a short write as its own error.
        with pytest.raises((OSError, RuntimeError)):
            io.save_checkpoint(
                {"step": 2, "weights": torch.ones(50_000)}, tmp_path / "last"
            )
    assert load_model(tmp_path / "model").info.training == {"step": 1}
    assert io.load_checkpoint(tmp_path / "last")["step"] == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last", "model"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    # A file in place of the folder: root, too, cannot write there.
    (tmp_path / "blocked").write_text("")
    with pytest.raises(OSError, match="blocked"):
        write_atomically(tmp_path / "blocked" / "a", lambda stream: stream.write(b"x"))
    folder = RunFolder(tmp_path / "blocked" / "run")
    with pytest.raises(DataError, match="blocked/run: cannot be written"):
        folder.prepare({}, resume=False, overwrite=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_a_read_only_folder_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, lambda stream: stream.write(b"old"))
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            write_atomically(path, lambda stream: stream.write(b"new"))
    finally:
        tmp_path.chmod(0o700)
    assert path.read_bytes() == b"old"


def test_a_living_process_keeps_its_temporary_file(tmp_path: Path) -> None:
    path, seen = tmp_path / "a", []

    def write(stream: object) -> None:
        # Somebody else writes the same file meanwhile, in the same process.
        del stream
        inner = tmp_path / "b"
        write_atomically(inner, lambda s: s.write(b"b"))
        seen.extend(file.name for file in tmp_path.iterdir())

    write_atomically(path, write)
    assert any(name.startswith(".a.") for name in seen)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]
