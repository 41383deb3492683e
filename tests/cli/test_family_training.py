"""``cormorant train`` with the networks of the family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from torch_cormorant import load_model
from torch_cormorant.models import Potential, Predictor

Command = Callable[..., str]
SMALL = "channels: 4, num_levels: 1, cutoff: 3.0"
FRAMES = """data: {{source: mini_ethanol, train: 8, valid: 4, test: 4}}
model: {{network: {network}, options: {{{options}}}}}
training: {{epochs: 1, batch_size: 4}}
"""


@pytest.mark.parametrize(
    "network", ["allegro", "nequip", "painn", "se3_transformer", "segnn", "schnet"]
)
def test_potentials(cormorant: Command, tmp_path: Path, network: str) -> None:
    text = FRAMES.format(network=network, options=SMALL)
    (tmp_path / "run.yaml").write_text(text)
    assert f"{network} (epoch 1)" in cormorant("train", "run.yaml", "--out", "run")
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert isinstance(model, Potential)
    assert model.network.kind == network
    assert model.info.units == ("eV",)
    found = cormorant("evaluate", "run/model.safetensors", "mini_ethanol")
    assert "force components" in found


def test_a_property(cormorant: Command, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "data: {source: mini_qm9, target: mu, train: 12, valid: 6, test: 10}\n"
        f"model: {{network: painn, options: {{{SMALL}}}}}\n"
        "training: {epochs: 1, batch_size: 6}\n"
    )
    cormorant("train", "run.yaml", "--out", "run")
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert isinstance(model, Predictor)
    assert model.info.targets == ("mu",)


def test_options_are_those_of_the_network(cormorant: Command, tmp_path: Path) -> None:
    for network, option in [("painn", "lmax: 1"), ("nequip", "complex: true")]:
        text = FRAMES.format(network=network, options=option)
        (tmp_path / "run.yaml").write_text(text)
        error = cormorant("train", "run.yaml", code=2)
        assert f"no such key: {option.split(':')[0]!r}" in error
