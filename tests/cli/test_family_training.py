"""``cormorant train`` with the networks of the family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from torch_cormorant import load_model
from torch_cormorant.models import Potential, Predictor

Command = Callable[..., str]
SMALL = "channels: 4, num_levels: 1, cutoff: 3.0"
IRREPS = "irreps: 4x0e + 2x1o, num_levels: 2, cutoff: 3.0"
KERNELS = "irreps: 4x0 + 2x1, num_levels: 1, radial: [6], embedding: 5"
OPTIONS = {
    "allegro": SMALL,
    "l1net": f"{KERNELS}, cutoff: 3.0",
    "brandnet": f"{KERNELS}, out_channels: 4",
    "nbody": SMALL,
    "nequip": SMALL,
    "painn": SMALL,
    "schnet": SMALL,
    "se3_transformer": SMALL,
    "segnn": SMALL,
    "so3net": SMALL,
    "tfn": IRREPS,
}
FRAMES = """data: {{source: mini_ethanol, train: 8, valid: 4, test: 4}}
model: {{network: {network}, options: {{{options}}}}}
training: {{epochs: 1, batch_size: 4}}
"""


@pytest.mark.parametrize("network", list(OPTIONS))
def test_potentials(cormorant: Command, tmp_path: Path, network: str) -> None:
    text = FRAMES.format(network=network, options=OPTIONS[network])
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
