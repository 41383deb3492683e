"""A command line to call, and a small trained network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from torch_cormorant.cli import main

Command = Callable[..., str]


@pytest.fixture
def cormorant(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Command:
    """Return a function that runs a command line and returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path, code: int = 0) -> str:
        try:
            found = main([str(argument) for argument in arguments])
        except SystemExit as leave:
            found = int(leave.code or 0)
        captured = capsys.readouterr()
        assert found == code, captured.err
        if code:
            assert captured.err.count("\n") == 1, captured.err
            assert "Traceback" not in captured.err
            return captured.err
        return captured.out

    return run


@pytest.fixture(scope="package")
def gap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on a property."""
    folder = tmp_path_factory.mktemp("gap")
    config = Path(__file__).parent / "gap.yaml"
    arguments = ["train", str(config), "--out", str(folder / "run")]
    assert main(arguments) == 0
    return folder / "run"
