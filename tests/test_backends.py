"""What is used, what is missing, and what is broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torch_cormorant import backends
from torch_cormorant.errors import BackendError


def fake_extension(folder: Path, name: str, code: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code, encoding="utf-8")


def test_importing_our_modules_loads_no_extension() -> None:
    code = (
        "import sys, torch_geometric.nn\n"
        "before = set(sys.modules)\n"  # torch-geometric loads torch-scatter itself
        "import torch_cormorant.backends, torch_cormorant.graph\n"
        "import torch_cormorant.ops.segment\n"
        "new = set(sys.modules) - before\n"
        "raise SystemExit(bool(new & {'torch_cluster', 'torch_scatter'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_built_in_backends_are_always_available() -> None:
    found = backends.available_backends()
    assert found["neighbour search"][:2] == ["brute_force", "cells"]
    assert found["segment sum"][0] == "torch"


def test_the_table_has_a_line_for_each_backend(
    capsys: pytest.CaptureFixture[str],
) -> None:
    backends.show_backends()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(backends.BACKENDS)
    for line, backend in zip(lines[1:], backends.BACKENDS, strict=True):
        assert backend.function in line
        assert backend.name in line
    assert f"torch {torch.__version__}" in lines[1]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise OSError('undefined symbol: _ZN3c10')", "undefined symbol: _ZN3c10"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("raise RuntimeError", "RuntimeError"),
    ],
)
def test_a_broken_extension_is_reported_and_does_not_crash(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: str,
    reason: str,
) -> None:
    name = f"broken_extension_{len(code)}"
    fake_extension(tmp_path, name, code)
    monkeypatch.syspath_prepend(tmp_path)
    entry = backends.Backend("segment sum", "broken", "used by name", name)
    monkeypatch.setattr(backends, "BACKENDS", (*backends.BACKENDS, entry))

    assert f"installed but broken: {reason}" in backends.find_extension(name).problem
    assert "broken" not in backends.available_backends()["segment sum"]
    with pytest.raises(BackendError, match=r"installed but broken.*(make|pip) "):
        backends.load_extension(name)
    backends.show_backends()
    assert "installed but broken" in capsys.readouterr().out


def test_notices_of_an_extension_are_kept_from_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import warnings\nwarnings.warn('old', DeprecationWarning)\n"
    fake_extension(tmp_path, "noisy_extension", code + "__version__ = '7.1'")
    monkeypatch.syspath_prepend(tmp_path)
    assert backends.load_extension("noisy_extension").__version__ == "7.1"
    state = backends.find_extension("noisy_extension")
    assert state == backends.Extension("noisy_extension", "7.1", "")


def test_the_command_depends_on_where_the_package_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site-packages" / "torch_cormorant"
    folder.mkdir(parents=True)
    monkeypatch.setattr(backends, "__file__", str(folder / "backends.py"))
    with pytest.raises(BackendError, match=r"pip install .*no-such-extension"):
        backends.load_extension("no_such_extension")
    (tmp_path / "site-packages" / "Makefile").touch()
    with pytest.raises(BackendError, match="make extensions"):
        backends.load_extension("no_such_extension")
