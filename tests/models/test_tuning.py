"""Models that are trained further: other heads, frozen parts, further elements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from torch_cormorant import Cormorant, load_model, save_model
from torch_cormorant.errors import ConfigError, ModelFileError, SpeciesError
from torch_cormorant.models import (
    ModelInfo,
    Normalisation,
    Potential,
    Predictor,
    freeze,
    with_species,
)
from torch_cormorant.networks import CormorantNetwork, NequIP, PaiNN, SchNet
from torch_cormorant.nn import SumHead
from torch_cormorant.nn.parts import REGISTRIES

SMALL: dict[str, Any] = {"channels": 2, "num_levels": 1, "lmax": 1}
Z = torch.tensor([8, 1, 1])
POS = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])


def test_a_model_is_loaded_to_be_trained(tmp_path: Path) -> None:
    save_model(tmp_path / "a.safetensors", Cormorant.potential([1, 8], **SMALL))
    model = load_model(tmp_path / "a.safetensors", train=True)
    assert model.training
    model.evaluate(Z, POS).forces.square().sum().backward()  # type: ignore[union-attr]
    assert not load_model(tmp_path / "a.safetensors").training


def test_another_head_sits_on_the_same_levels(tmp_path: Path) -> None:
    model = Cormorant([1, 8], head="extensive", **SMALL)
    units = Normalisation((1.0,), (2.0,))
    model.info = ModelInfo(("gap",), ("eV",), units)
    levels = model(Z, POS, return_levels=True)[1]
    assert model.replace_head("dipole") is model
    assert model.info.units == ("",)
    out, again = model(Z, POS, return_levels=True)
    assert out.shape == (1, 3)
    torch.testing.assert_close(again, levels)
    path = tmp_path / "a.safetensors"
    save_model(path, model, targets=["dipole"], units=["Debye"])
    torch.testing.assert_close(load_model(path)(Z, POS), out)
    two = Predictor(SchNet([1, 8], channels=4)).replace_head("mean", num_targets=2)
    assert two.predict(Z, POS).shape == (1, 2)
    assert len(two.info.targets) == 2


def test_a_potential_stays_one() -> None:
    model = Cormorant.potential([1, 8], **SMALL).set_units({1: -1.0, 8: -2.0})
    old = model.head
    with pytest.raises(ConfigError, match="one target per molecule"):
        model.replace_head("dipole")
    assert model.head is old
    model.replace_head("extensive", hidden=8)
    assert model.info.normalisation.atom_values[8] == (-2.0,)
    assert model.config["hidden"] == 8
    with pytest.raises(ConfigError, match="hiden"):
        model.replace_head("extensive", hiden=8)


def test_parts_are_frozen_by_name() -> None:
    model = Cormorant.potential([1, 8], channels=2, num_levels=2)
    count = freeze(model, "input", "network.convs.0")
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert {n.split(".")[1] for n in frozen} == {"input", "convs"}
    assert not any(n.startswith("network.convs.1") for n in frozen)
    assert count == sum(model.get_parameter(n).numel() for n in frozen)
    with pytest.raises(ConfigError, match=r"'conv'.*did you mean 'convs'"):
        freeze(model, "conv")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cormorant([8, 1], **SMALL),
        lambda: Cormorant([8, 1], input="linear", charge_power=0, **SMALL),
        lambda: Cormorant.potential([8, 1], repulsion="zbl", **SMALL),
        lambda: Potential(CormorantNetwork([8, 1], head="extensive", **SMALL), "zbl"),
        lambda: Predictor(NequIP([8, 1], channels=2, num_levels=1)),
        lambda: PaiNN([8, 1], channels=4, num_levels=1),
    ],
)
def test_further_elements_change_nothing_for_those_that_are_known(make: Any) -> None:
    torch.manual_seed(0)
    model = make().double()
    more = with_species(model, [6, 9], like={9: 8})
    pos = POS.double()
    torch.testing.assert_close(more(Z, pos), model(Z, pos))
    if hasattr(model, "evaluate") and model.head.additive:
        old, new = (m.evaluate(Z, pos).forces for m in (model, more))
        torch.testing.assert_close(new, old)
    assert bool(more(torch.tensor([6, 9, 1]), pos).isfinite().all())


def test_a_new_element_starts_like_another_and_has_a_reference() -> None:
    model = Cormorant.potential([1, 8], charge_power=0, **SMALL).double()
    model.set_units({1: -1.0, 8: -2.0})
    more = with_species(model, [9], like={9: 8}, references={9: -3.0})
    other = torch.tensor([9, 1, 1])
    pos = POS.double()
    found, like = more.evaluate(other, pos), model.evaluate(Z, pos)
    torch.testing.assert_close(found.energy, like.energy - 1.0)
    for wrong in (
        {"species": [8]},
        {"species": [9], "like": {9: 7}},
        {"species": ["N"]},
        {"species": []},
    ):
        with pytest.raises(SpeciesError, match="numbers that it does not know"):
            with_species(model, **wrong)


class Half(SumHead):
    """A head that a file may name."""

    def __init__(self, inputs: int, num_targets: int = 1) -> None:
        super().__init__()
        self.shape = (num_targets,)
        self.linear = torch.nn.Linear(inputs, num_targets)

    def contributions(self, values: torch.Tensor) -> torch.Tensor:
        return self.linear(values) / 2


def test_own_parts_are_known_in_the_call_only(tmp_path: Path) -> None:
    model = Cormorant([1, 8], head={"class": Half}, **SMALL)
    save_model(tmp_path / "a.safetensors", model)
    (registry,) = [r for r in REGISTRIES if r.word == "head"]
    name = f"{Half.__module__}.Half"
    registry.classes.pop(name)
    with pytest.raises(ModelFileError, match="parts="):
        load_model(tmp_path / "a.safetensors")
    again = load_model(tmp_path / "a.safetensors", parts=[Half])
    assert name not in registry.classes
    save_model(tmp_path / "b.safetensors", again)
    assert type(again.replace_head({"class": Half}).head) is Half


def test_contributions_are_in_the_unit_of_the_energy() -> None:
    model = Cormorant.potential([1, 8], **SMALL).double()
    model.set_units({1: -1.0, 8: -2.0}, scale=3.0)
    pos = POS.double()
    parts = model.contributions(Z, pos)
    energy = model.evaluate(Z, pos, forces=False).energy
    torch.testing.assert_close(parts.sum(), energy[0] + 4.0)
