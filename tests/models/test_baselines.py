"""Stored numbers: a change of any of them is a change of the networks."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

HERE = Path(__file__).parent
STORED = json.loads((HERE / "baselines.json").read_text())


@pytest.fixture(scope="session")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("baselines", HERE / "baselines.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_configuration_is_stored(program: ModuleType) -> None:
    assert set(STORED) == set(program.CONFIGURATIONS)


@pytest.mark.parametrize("name", list(STORED))
def test_numbers_are_as_stored(name: str, program: ModuleType) -> None:
    for key, values in program.numbers(name).items():
        found, expected = (
            torch.tensor(part, dtype=torch.float64)
            for part in (values, STORED[name][key])
        )
        size = float(expected.abs().max())
        assert size > 1e-6, key
        assert float((found - expected).abs().max()) <= 1e-12 * size, key
