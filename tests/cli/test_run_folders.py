"""A run folder under bad conditions: full disks, damage, a second run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from torch_cormorant import load_model
from torch_cormorant.train import AtomicCheckpointIO, RunFolder

CONFIG = (Path(__file__).parent / "gap.yaml").read_text()
FULL = ("output.tensorboard=true", "output.report=false")
MODEL = "model.safetensors"
Command = Callable[..., str]


@pytest.fixture(autouse=True)
def config(tmp_path: Path) -> None:
    """Write a configuration of a tiny run."""
    (tmp_path / "a.yaml").write_text(f"{CONFIG}output: {{report: false}}\n")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function that mounts a file system of so many KiB, or enlarges it."""
    place = tmp_path / "disk"
    place.mkdir()

    def size(kilobytes: int) -> Path:
        again = ["-o", "remount"] * os.path.ismount(place)
        options = [*again, "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        command = ["mount", "-t", "tmpfs", *options]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("no mount on this system")
        if done.returncode:
            pytest.skip(f"no small file system can be mounted: {done.stderr.strip()}")
        return place

    yield size
    if os.path.ismount(place):
        command = ["umount", "-l", str(place)]
        subprocess.run(command, check=True)


def whole(folder: RunFolder) -> set[str]:
    """Read every file of a run, and return their names."""
    found = {file.name for file in folder.path.iterdir() if file.is_file()}
    assert found <= {file.name for file in folder.files}, "nothing half written"
    for name in found & {"last.ckpt", "best.ckpt"}:
        AtomicCheckpointIO().load_checkpoint(folder.path / name)
    for name in found & {"settings.json", "results.json"}:
        json.loads((folder.path / name).read_text())
    if folder.model.exists():
        load_model(folder.model)
    return found


@pytest.mark.parametrize(
    ("kilobytes", "left"),
    [
        (4, set()),
        (8, {"settings.json"}),
        (64, {"settings.json"}),
        (180, {"settings.json", "best.ckpt"}),
        (260, {"settings.json", "best.ckpt", "last.ckpt"}),
    ],
)
def test_a_disk_that_fills_up_ends_in_one_line_and_the_run_goes_on(
    cormorant: Command,
    disk: Callable[[int], Path],
    kilobytes: int,
    left: set[str],
) -> None:
    folder = RunFolder(disk(kilobytes) / "run")
    arguments = ("train", "a.yaml", "--out", folder.path, "--override", *FULL)
    error = cormorant(*arguments, code=2)
    assert "run: writing failed (No space left on device)" in error
    assert whole(folder) == left
    disk(4096)
    assert ("go on with --resume" in error) == folder.resumable
    cormorant(*arguments, *(["--resume"] if folder.resumable else []))
    assert MODEL in whole(folder)


def test_the_result_of_a_damaged_run_is_that_of_a_whole_one(
    cormorant: Command, tmp_path: Path
) -> None:
    constant = ("train", "a.yaml", "--override", "training.schedule=constant")
    cormorant(*constant, "--out", "whole")
    cormorant(*constant, "training.epochs=1", "--out", "run")
    folder = RunFolder(tmp_path / "run")
    raw = bytearray(folder.last.read_bytes())
    raw[len(raw) // 2] ^= 4
    folder.last.write_bytes(raw)
    text = cormorant(*constant, "--out", "run", "--resume")
    assert "run/last.ckpt: damaged" in text
    assert "goes on from best.ckpt, the end of epoch 1" in text
    ours, theirs = load_model(folder.model), load_model(tmp_path / "whole" / MODEL)
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_a_damaged_best_checkpoint_never_becomes_a_model(
    cormorant: Command, tmp_path: Path
) -> None:
    cormorant("train", "a.yaml", "--out", "run")
    folder = RunFolder(tmp_path / "run")
    content = torch.load(folder.best, weights_only=True)
    weight = next(v for v in content["state_dict"].values() if v.numel() > 8)
    raw = folder.best.read_bytes()
    place = raw.index(weight.numpy().tobytes())
    folder.best.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    before = folder.model.read_bytes()
    error = cormorant("train", "a.yaml", "--out", "run", "--resume", code=2)
    assert "run/best.ckpt: damaged, its contents do not have their digest" in error
    assert folder.model.read_bytes() == before


def test_a_second_run_in_one_folder_is_refused(
    cormorant: Command, tmp_path: Path
) -> None:
    with RunFolder(tmp_path / "run") as folder:
        folder.lock()
        error = cormorant("train", "a.yaml", "--out", "run", code=2)
        assert "run: another run writes here (process" in error
        assert list(folder.path.iterdir()) == [folder.path / ".lock"]
    cormorant("train", "a.yaml", "--out", "run")
    seeds = ("--override", "training.seeds=[1, 2]")
    with folder:
        folder.lock()
        for change in ("--resume", "--overwrite"):
            error = cormorant("train", "a.yaml", "--out", "run", change, code=2)
            assert "another run writes here" in error
        error = cormorant("train", "a.yaml", "--out", "run", *seeds, code=2)
        assert "another run writes here" in error
    assert ".lock" not in {file.name for file in folder.path.iterdir()}


def test_what_a_machine_or_a_run_cannot_do_leaves_the_run_as_it_is(
    cormorant: Command, tmp_path: Path
) -> None:
    cormorant("train", "a.yaml", "--out", "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    arguments = ("train", "a.yaml", "--out", "run", "--override")
    error = cormorant(*arguments, "training.epochs=1", "--resume", code=2)
    assert "2 epochs are done, more than the 1 asked for" in error
    for change, answer in (
        ("training.threads=100000000", "training.threads: 100000000, at most"),
        ("training.seed=4294967296", "training.seed: 4294967296, expected 0 to"),
        ("training.seeds=[1, 1]", "training.seeds: [1, 1] names one of them twice"),
    ):
        assert answer in cormorant(*arguments, change, "--overwrite", code=2)
    if not torch.cuda.is_available():
        for devices in (1, 3):
            wanted = ("training.device=cuda", f"training.devices={devices}")
            error = cormorant(*arguments, *wanted, "--overwrite", code=2)
            assert "training.device 'cuda': this PyTorch sees no CUDA device" in error
    assert {f: f.read_bytes() for f in (tmp_path / "run").iterdir()} == before


def test_too_little_memory_ends_in_one_line(cormorant: Command) -> None:
    large = "model.options={channels: 1000000000000}"
    error = cormorant("train", "a.yaml", "--override", large, code=2)
    assert "can't allocate memory" in error


@pytest.mark.parametrize(
    "content", [[1, 2], {"model_state": 3}, {1: torch.zeros(2)}, b"damaged"]
)
def test_weights_of_another_kind_end_in_one_line(
    cormorant: Command, tmp_path: Path, content: object
) -> None:
    if isinstance(content, bytes):
        (tmp_path / "a.pt").write_bytes(content)
    else:
        torch.save(content, tmp_path / "a.pt")
    error = cormorant("convert", "a.pt", "b.safetensors", code=2)
    assert error.startswith("cormorant convert: error: ")


def test_a_full_disk_behind_the_output_ends_in_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "torch_cormorant", "train", "--keys"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
