"""The generated kernels against the portable path, in Triton's interpreter.

Triton decides while it is imported whether it interprets, so the cases run in a
process of their own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the kernels need the package triton")

FILE = Path(__file__).parent / "cases.py"
Errors = dict[str, float]


def _names(attribute: str) -> list[str]:
    spec = importlib.util.spec_from_file_location("triton_cases", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return list(getattr(module, attribute))


@pytest.fixture(scope="module")
def errors() -> dict[str, Errors]:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(FILE)]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Errors] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("name", _names("CASES"))
def test_double_precision_agrees(errors: dict[str, Errors], name: str) -> None:
    assert errors[name]
    too_large = {key: value for key, value in errors[name].items() if value > 1e-13}
    assert not too_large


@pytest.mark.parametrize("name", _names("SINGLE"))
def test_single_precision_agrees(errors: dict[str, Errors], name: str) -> None:
    too_large = {key: value for key, value in errors[name].items() if value > 2e-6}
    assert not too_large


def test_every_result_was_compared(errors: dict[str, Errors]) -> None:
    names = {"forward", "dx", "dg", "dsh", "ddx", "ddg", "ddsh", "ddgrads"}
    assert set(errors["complex, pairs"]) == names
    assert errors.keys() == {*_names("CASES"), *_names("SINGLE")}
