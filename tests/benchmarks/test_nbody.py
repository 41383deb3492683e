"""The measurement of N-body gates runs."""

from __future__ import annotations

import pytest

from benchmarks import nbody


def test_growth_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    nbody.main(["--children", "2", "3", "--nodes", "2"])
    text = capsys.readouterr().out
    assert "double sum" in text
    assert text.count("relative") == 3
    assert "nan" not in text
