from __future__ import annotations

import errno
import json
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.chaos.test_kills import full_disk
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.train import RunFolder, write_atomically, write_json


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, lambda stream: stream.write(b"old"))

    def fail(stream: BinaryIO) -> None:
        stream.write(b"half of the new")
        message = "disk full"
        raise OSError(message)

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    path, victim, seen = tmp_path / "a", tmp_path / "victim", []
    victim.write_bytes(b"precious")
    write_atomically(
        path, lambda _: seen.extend(file.name for file in tmp_path.iterdir())
    )
    (name,) = [name for name in seen if name.endswith(".tmp")]
    (tmp_path / name).symlink_to(victim)
    write_atomically(path, lambda stream: stream.write(b"new"))
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "victim"]


def test_a_full_disk_is_reported_whatever_the_writer_makes_of_it(
    tmp_path: Path,
) -> None:
    def write(stream: BinaryIO) -> None:
        try:
            stream.write(bytes(1 << 20))
            stream.flush()
        except OSError as error:
            message = "unexpected pos 64 vs 0"  # as torch.save has it
            raise RuntimeError(message) from error

    with full_disk(10_000), pytest.raises(OSError, match="large") as caught:
        write_atomically(tmp_path / "a", write)
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_written_files_can_be_read_by_others(tmp_path: Path) -> None:
    path, plain = tmp_path / "a", tmp_path / "b"
    write_atomically(path, lambda stream: stream.write(b"x"))
    plain.write_bytes(b"x")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_json_refuses_numbers_it_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"a": [1, 2.5, None]})
    assert json.loads(path.read_text()) == {"a": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": [1, 2.5, None]}


def test_fresh_folder_is_the_first_free_number(tmp_path: Path) -> None:
    assert RunFolder.fresh(tmp_path / "run").path == tmp_path / "run-1"
    (tmp_path / "run-1").mkdir()
    assert RunFolder.fresh(tmp_path / "run").path == tmp_path / "run-2"


def started(path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.prepare({"lr": 0.1, "target": "mu"}, resume=False, overwrite=False)
    folder.last.write_bytes(b"weights")
    folder.results.write_bytes(b"numbers")
    return folder


def test_a_run_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    folder = started(tmp_path / "run")
    (folder.path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="already holds a run"):
        folder.prepare({"lr": 0.1}, resume=False, overwrite=False)
    assert folder.last.read_bytes() == b"weights"
    folder.prepare({"lr": 0.2}, resume=False, overwrite=True)
    folder.release()
    names = sorted(file.name for file in folder.path.iterdir())
    assert names == ["notes.txt", "settings.json"]
    assert json.loads(folder.settings.read_text()) == {"lr": 0.2}


def test_resume_needs_the_same_settings(tmp_path: Path) -> None:
    folder = started(tmp_path / "run")
    folder.prepare({"lr": 0.1, "target": "mu"}, resume=True, overwrite=False)
    assert folder.last.read_bytes() == b"weights"
    with pytest.raises(ConfigError, match=r"started with lr = 0\.1, .* lr = 0\.2"):
        folder.prepare({"lr": 0.2, "target": "mu"}, resume=True, overwrite=False)
    folder.settings.write_text("{")
    with pytest.raises(DataError, match=r"settings\.json: damaged"):
        folder.prepare({"lr": 0.1, "target": "mu"}, resume=True, overwrite=False)


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.prepare({"lr": 0.1}, resume=False, overwrite=False)
    folder.last.write_bytes(b"x")
    folder.prepare({"lr": 0.1, "new": 1}, resume=True, overwrite=False)
    with pytest.raises(ConfigError, match=r"cannot be resumed with lr = 0\.2"):
        folder.prepare({"lr": 0.2, "new": 1}, resume=True, overwrite=False)
    with pytest.raises(DataError, match=r"settings\.json: damaged"):
        folder.prepare({"other": 1}, resume=True, overwrite=False)


def test_resume_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint to resume from"):
        RunFolder(tmp_path / "run").prepare({}, resume=True, overwrite=False)
    assert not (tmp_path / "run").exists()


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/run: cannot be written \(Not a dir"):
        RunFolder(tmp_path / "file" / "run").prepare({}, resume=False, overwrite=False)


def test_a_run_without_a_checkpoint_leaves_its_folder_free(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.prepare({"lr": 0.1}, resume=False, overwrite=False)
    folder.prepare({"lr": 0.2}, resume=False, overwrite=False)
    assert json.loads(folder.settings.read_text()) == {"lr": 0.2}


def test_another_length_is_remarked_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert not folder.prepare({"lr": 1}, resume=False, overwrite=False, epochs=3)
    folder.last.write_bytes(b"weights")
    assert not folder.prepare({"lr": 1}, resume=True, overwrite=False, epochs=3)
    remark = folder.prepare({"lr": 1}, resume=True, overwrite=False, epochs=5)
    assert "started for 3 epochs, goes on to 5" in remark
