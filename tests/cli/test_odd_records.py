"""Model files whose training record is of another kind than that of our trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from torch_cormorant import load_model, save_model

Command = Callable[..., str]


@pytest.mark.parametrize("section", [None, [], "", {}, {"train": "x"}])
def test_another_kind_of_record_is_left_aside(
    cormorant: Command, tmp_path: Path, gap: Path, section: object
) -> None:
    model = load_model(gap / "model.safetensors")
    record = {**model.info.training, "config": {"data": section}}
    save_model(tmp_path / "a.safetensors", model, training=record)
    text = cormorant("evaluate", "a.safetensors", "mini_qm9")
    assert "310 molecules" in text
    cormorant("info", "a.safetensors")
