"""One folder, one writer."""

from __future__ import annotations

import os
import signal
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from lightning.fabric.utilities import rank_zero_only

from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.train import RunFolder
from torch_cormorant.train.lock import FolderLock

fcntl = pytest.importorskip("fcntl", reason="no locks on this system")


def hold(path: Path, connection: Connection) -> None:
    """Take the lock of a folder and keep it."""
    folder = RunFolder(path)
    folder.lock()
    connection.send(os.getpid())
    signal.pause()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_second_run_is_refused_and_a_killed_one_leaves_no_lock(
    tmp_path: Path,
) -> None:
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=hold, args=(tmp_path / "run", theirs))
    child.start()
    number = ours.recv()
    folder = RunFolder(tmp_path / "run")
    for resume in (False, True):
        if resume:
            folder.last.touch()
            folder.settings.write_text('{"lr": 1}')
        with pytest.raises(
            ConfigError, match=rf"run: another run writes here \(process {number} on"
        ):
            folder.prepare({"lr": 1}, resume=resume, overwrite=True)
    assert folder.last.exists()
    os.kill(number, signal.SIGKILL)
    child.join()
    assert (tmp_path / "run" / ".lock").exists()
    assert not folder.prepare({"lr": 1}, resume=True, overwrite=False)


def test_the_lock_ends_with_its_block_its_object_and_an_error(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        assert not folder.prepare({}, resume=False, overwrite=False)
        assert not folder.prepare({}, resume=False, overwrite=False)
        with pytest.raises(ConfigError, match="another run writes here"):
            RunFolder(tmp_path).prepare({}, resume=False, overwrite=False)
    forgotten = FolderLock(tmp_path)
    forgotten.acquire()
    del forgotten
    folder = RunFolder(tmp_path)
    folder.last.touch()
    with pytest.raises(ConfigError, match="already holds a run"):
        folder.prepare({}, resume=False, overwrite=False)
    assert not (tmp_path / ".lock").exists()
    RunFolder(tmp_path).prepare({}, resume=False, overwrite=True)


def test_processes_that_train_together_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.prepare({"lr": 1}, resume=False, overwrite=False)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    second.prepare({"lr": 1}, resume=False, overwrite=False)
    assert first.settings.exists()


def test_where_there_are_no_locks_a_remark_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(handle: int, kind: int) -> None:
        del handle, kind
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    remark = RunFolder(tmp_path).prepare({}, resume=False, overwrite=False)
    assert "cannot be locked (Function not implemented)" in remark
    monkeypatch.setitem(__import__("sys").modules, "fcntl", None)
    assert "no locks on this system" in RunFolder(tmp_path).lock()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(victim)
    with pytest.raises(DataError, match="run: cannot be written"):
        RunFolder(tmp_path / "run").lock()
    assert victim.read_text() == "precious"
