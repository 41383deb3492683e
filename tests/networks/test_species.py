"""What levels know of the elements, and levels that add to their input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from torch_cormorant import (
    Cormorant,
    CormorantConv,
    CormorantMD17,
    EdgeGeometry,
    load_model,
    save_model,
)
from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.interfaces.native_rules import native_problem
from torch_cormorant.nn import Bessel, SpeciesRadial, SpeciesScale
from torch_cormorant.ops import fused
from torch_cormorant.so3 import random_rotation

Z = torch.tensor([8, 1, 6, 1, 6])
POS = torch.tensor(
    [[0.0, 0, 0], [0.9, 0, 0.2], [-0.8, 1.1, 0.1], [-0.5, 1.2, 1.2], [-1.9, 0.4, 0.7]],
    dtype=torch.float64,
)
OPTIONS: dict[str, dict[str, Any]] = {
    "radial": {"radial": {"kind": "species", "hidden": 6}},
    "scale": {"species_scale": True},
    "residual": {"residual": True},
    "all, real": {
        "radial": "species",
        "species_scale": True,
        "residual": True,
        "complex": False,
    },
}


def make(**options: Any) -> Any:
    torch.manual_seed(0)
    given = {"channels": 4, "num_levels": 2, "cutoff": 4.0, **options}
    model = Cormorant.potential((1, 6, 8), **given).double()
    with torch.no_grad():  # factors that start at one
        for name, weight in model.named_parameters():
            if "scale" in name:
                weight.uniform_(0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_energies_turn_with_nothing_and_forces_with_the_molecule(
    options: dict[str, Any],
) -> None:
    model = make(**options)
    energy, forces = model.energy_and_forces(Z, POS)
    R = random_rotation(dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([3, 0, 4, 2, 1])
    turned = model.energy_and_forces(Z[order], POS[order] @ R.T)
    torch.testing.assert_close(turned[0], energy, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(turned[1], forces[order] @ R.T, rtol=0, atol=1e-12)
    mirrored = model.energy_and_forces(Z, -POS)[0]
    torch.testing.assert_close(mirrored, energy, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_all_ways_to_compute_agree_and_forces_are_slopes(
    options: dict[str, Any],
) -> None:
    model = make(**options)
    energy, forces = model.energy_and_forces(Z, POS)
    model.network.set_backend("reference")
    found = model.energy_and_forces(Z, POS)
    model.network.set_backend("auto")
    torch.testing.assert_close(found[0], energy, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[1], forces, rtol=0, atol=1e-12)
    step = torch.zeros_like(POS)
    step[2, 1] = 1e-5
    ends = [model.energy_and_forces(Z, POS + sign * step)[0] for sign in (1, -1)]
    slope = float((ends[0] - ends[1]) / 2e-5)
    assert -slope == pytest.approx(float(forces[2, 1]), abs=1e-8)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_losses_on_forces_have_the_same_gradients_fused_or_not(
    options: dict[str, Any],
) -> None:
    model = make(**options).train()

    def gradients() -> list[torch.Tensor]:
        result = model.evaluate(Z, POS)
        loss = result.forces.square().sum() + result.energy.square().sum()
        return list(torch.autograd.grad(loss, [*model.parameters()], allow_unused=True))

    together = gradients()
    with fused.enabled(False):
        apart = gradients()
    for one, other in zip(together, apart, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_files_keep_them_and_the_native_evaluator_refuses_them(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model = make(**options)
    save_model(tmp_path / "model.safetensors", model)
    again = load_model(tmp_path / "model.safetensors")
    assert torch.equal(again.evaluate(Z, POS).forces, model.evaluate(Z, POS).forces)
    assert "covered" in native_problem(model)
    with pytest.raises((WeightsError, RuntimeError)):
        make().load_state_dict(model.state_dict())


def test_a_change_of_elements_changes_the_radial_functions() -> None:
    radial = SpeciesRadial(8, 5.0, hidden=6, species=2).double()
    length = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    rows = radial(length, torch.tensor([0, 1, 2]))
    assert (rows[0] - rows[1]).abs().max() > 1e-3
    assert (rows[1] - rows[2]).abs().max() > 1e-3
    basis = Bessel(8, 5.0, complex=False)(length[:1])
    hidden = radial.scale[1] * (basis @ radial.weight)[0] + radial.shift[1]
    expected = radial.factor * torch.nn.functional.silu(hidden)
    torch.testing.assert_close(rows[1], expected, rtol=1e-12, atol=1e-12)
    assert torch.linalg.norm(radial(0 * length[:1])) < 10


def test_kinds_of_pairs_do_not_depend_on_the_order() -> None:
    index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    geometry = EdgeGeometry.from_pos(POS[:3], index)
    typed = geometry.of_types(torch.tensor([2, 0, 1]))
    assert geometry.kinds is None
    assert typed.to_edges(typed.kinds).tolist() == [3, 3, 1, 1]


def test_layers_alone_say_what_they_need() -> None:
    conv = CormorantConv(2, 2, lmax=1, radial="species", cutoff=4.0, species=3)
    index = torch.tensor([[0, 1], [1, 0]])
    geometry = EdgeGeometry.from_pos(POS[:2].float(), index)
    with pytest.raises(ConfigError, match="elements"):
        conv(torch.ones(2, 2), geometry)
    typed = geometry.of_types(torch.tensor([2, 0]))
    assert conv(torch.ones(2, 2), typed).shape == (2, 4, 2, 2)
    alike = CormorantConv(2, 2, lmax=1, radial="species", cutoff=4.0)
    assert alike(torch.ones(2, 2), geometry).shape == (2, 4, 2, 2)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="equal channels"):
        make(residual=True, channels=[4, 4, 2])
    with pytest.raises(ConfigError, match="species"):
        SpeciesScale(4, 2, 0)


@pytest.mark.parametrize("options", [{"residual": True}, {"species_scale": True}])
def test_the_original_has_no_place_for_them(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the original has no"):
        CormorantMD17(channels=2, num_levels=1, lmax=1, **options).to_original()


def test_levels_are_calibrated_before_the_input_is_added() -> None:
    found = []
    for residual in (False, True):
        model = make(residual=residual, num_levels=1)
        batch = Data(z=Z, pos=POS, batch=torch.zeros_like(Z))
        model.network.calibrate([batch], 1.0)
        found.append(model.network.convs[0].vertex.weights[1])
    assert torch.equal(*found)


def test_defaults_are_without_them() -> None:
    model = make()
    network = model.network
    assert (network.typed, network.residual, len(network.scales)) == (False, False, 0)
    assert not [name for name in model.state_dict() if "scales" in name]
