"""What decides the numbers beside the weights travels with them and is compared."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from torch_cormorant import (
    Cormorant,
    CormorantConv,
    CormorantMD17,
    CormorantQM9,
    load_model,
    save_model,
)
from torch_cormorant.errors import WeightsError
from torch_cormorant.models import ModelInfo, Normalisation
from torch_cormorant.nn.facts import EXTRA
from torch_cormorant.train import PropertyRegression

SMALL: dict[str, Any] = {"channels": 4, "num_levels": 2, "lmax": 1, "hidden": 8}
FIXTURES = Path(__file__).parents[1] / "fixtures"
Z, POS = torch.tensor([8, 1, 1]), torch.eye(3)
ENERGIES = {1: -13.6, 6: -1030.0, 8: -2041.0}


def network(**changed: Any) -> Cormorant:
    torch.manual_seed(0)
    return Cormorant(**{"species": [1, 6, 8], "head": "extensive", **SMALL, **changed})


def potential(**changed: Any) -> Cormorant:
    torch.manual_seed(0)
    return Cormorant.potential(**{"species": [1, 6, 8], **SMALL, **changed})


def conv(**changed: Any) -> CormorantConv:
    torch.manual_seed(0)
    return CormorantConv(**{"in_channels": 3, "out_channels": 4, "lmax": 1, **changed})


Made = Callable[..., nn.Module]
# what differs, a module, and one of the same shapes that computes other numbers
OTHERS: list[tuple[str, Made, dict[str, Any], dict[str, Any]]] = [
    ("species", network, {}, {"species": [1, 7, 8]}),
    ("charge_scale", network, {}, {"charge_scale": 9.0}),
    ("cutoff", network, {}, {"cutoff": 4.0}),
    ("harmonics", network, {}, {"harmonics": "solid"}),
    ("input_cutoff", network, {}, {"mpnn_cutoff": 2.0}),
    ("input_activation", network, {}, {"activation": "silu"}),
    ("head", network, {}, {"head": "mean"}),
    ("activation", network, {"input": "linear"}, {"activation": "relu"}),
    ("radial", network, {}, {"radial": "gaussian"}),
    ("envelope_cutoff", network, {"input": "linear"}, {"envelope": False}),
    ("gaussian_mask", network, {}, {"gaussian_mask": True}),
    ("repulsion", potential, {}, {"repulsion": "zbl"}),
    ("repulsion", potential, {"repulsion": "zbl"}, {"energy_unit": "kcal/mol"}),
    ("species", CormorantQM9, {}, {"species": [1, 6, 7, 8, 16]}),
    ("cutoff", CormorantMD17, {}, {"cutoff": 5.0}),
    ("lmax", conv, {"lmax_sh": 1}, {"lmax": 0}),
    ("paths", conv, {"lmax_in": 1}, {"paths": "even"}),
    ("harmonics", conv, {}, {"harmonics": "solid"}),
    ("radial", conv, {"cutoff": 5.0}, {"cutoff": 4.0, "radial": "power_trig"}),
    ("hard_cutoff", conv, {}, {"cutoff": 5.0, "cutoff_type": ["learn", "hard"]}),
    ("complex", conv, {}, {"complex": False}),
]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("name", "make", "base", "change"), OTHERS)
def test_weights_of_another_module_are_refused_by_what_differs(
    name: str, make: Made, base: dict[str, Any], change: dict[str, Any], strict: bool
) -> None:
    if name == "radial" and make is conv:
        base = {**base, "radial": "bessel"}
    given, other = make(**base), make(**{**base, **change})
    before = copy.deepcopy(dict(other.named_parameters()))
    with pytest.raises(WeightsError, match=rf"\b{name} is ") as caught:
        other.load_state_dict(given.state_dict(), strict=strict)
    assert EXTRA in str(caught.value), "and how to load them nevertheless"
    if make is conv:
        assert all(p.equal(before[k]) for k, p in other.named_parameters())


@pytest.mark.parametrize(
    ("make", "options", "same"),
    [
        (network, {}, {"species": [8, 1, 6], "charge_scale": 8.0, "lmax": [1, 1]}),
        (network, {}, {"gain": 2.0, "init": "published", "max_edges": 10}),
        (network, {}, {"mpnn_cutoff": None, "envelope": True}),
        (conv, {}, {"gain": 2.0, "avg_num_neighbors": 9.0, "soft_radius": 2.0}),
        (conv, {}, {"backend": "reference", "in_channels": -1}),
    ],
)
def test_other_words_for_the_same_numbers_are_no_difference(
    make: Made, options: dict[str, Any], same: dict[str, Any]
) -> None:
    given, other = make(**options), make(**{**options, **same})
    assert other.load_state_dict(given.state_dict()).missing_keys == []


# --------------------------------------------------------------- references


def test_references_and_scales_are_compared() -> None:
    given = potential().set_units(ENERGIES, scale=0.5)
    for energies, scale, text in (
        ({**ENERGIES, 8: -2000.0}, 0.5, r"reference of element 8 is .*2000.*2041"),
        (ENERGIES, 0.7, r"scale is \[0\.7\].*\[0\.5\]"),
    ):
        other = potential().set_units(energies, scale)
        with pytest.raises(WeightsError, match=text):
            other.load_state_dict(given.state_dict(), strict=False)
    with pytest.raises(WeightsError, match="scale"):
        given.load_state_dict(potential().state_dict())


def test_a_network_without_references_takes_those_of_the_weights() -> None:
    given, other = potential().set_units(ENERGIES, scale=0.5), potential()
    other.load_state_dict(given.state_dict())
    energy = other.evaluate(Z, POS).energy.detach()
    assert torch.equal(energy, given.evaluate(Z, POS).energy.detach())
    assert float(energy) < -2000
    assert other.info.units == ("eV",)


def test_weights_that_know_no_outputs_leave_references_alone() -> None:
    """Properties are trained on normalised labels; the file names units afterwards."""
    given, other = network(), network()
    units = Normalisation((1.0,), (2.0,))
    other.info = ModelInfo(("gap",), ("eV",), units)
    other.load_state_dict(given.state_dict())
    assert other.info.normalisation == units


def test_references_of_a_fit_may_differ_by_rounding() -> None:
    given = potential().set_units(ENERGIES, scale=0.5)
    near = {z: e * (1 + 1e-13) for z, e in ENERGIES.items()}
    potential().set_units(near, scale=0.5).load_state_dict(given.state_dict())


def test_a_training_refuses_weights_for_other_labels() -> None:
    module = PropertyRegression(network(), mean=1.0, std=2.0)
    PropertyRegression(network(), 1.0, 2.0).load_state_dict(module.state_dict())
    other = PropertyRegression(network(), mean=5.0, std=2.0)
    with pytest.raises(WeightsError, match="normalisation is"):
        other.load_state_dict(module.state_dict())


def test_a_training_loads_weights_from_before() -> None:
    state = PropertyRegression(network(), mean=1.0, std=2.0).state_dict()
    old = {name: value for name, value in state.items() if not name.endswith(EXTRA)}
    PropertyRegression(network(), mean=5.0, std=2.0).load_state_dict(old)


# --------------------------------------------------------------- old weights, files


@pytest.mark.parametrize("make", [network, potential, conv])
def test_weights_from_before_are_loaded_as_they_are(make: Made) -> None:
    given, other = make(), make()
    old = {k: v for k, v in given.state_dict().items() if not k.endswith(EXTRA)}
    assert other.load_state_dict(old).missing_keys == []
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(dict(list(old.items())[1:]))


def test_weights_are_read_without_running_code(tmp_path: Path) -> None:
    given = potential().set_units(ENERGIES)
    torch.save(given.state_dict(), tmp_path / "weights.pt")
    found = torch.load(tmp_path / "weights.pt", weights_only=True)
    other = potential().set_units(ENERGIES)
    other.load_state_dict(found)
    words = json.loads(bytes(found[EXTRA].tolist()))
    assert words["species"] == [1, 6, 8]


def test_model_files_hold_no_facts_twice(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, potential().set_units(ENERGIES))
    found = load_model(path)
    assert torch.equal(
        found.evaluate(Z, POS).energy,
        potential().set_units(ENERGIES).evaluate(Z, POS).energy.detach(),
    )
    load_model(FIXTURES / "ethanol_potential.safetensors")


@pytest.mark.parametrize(
    "damaged", [torch.zeros(3, dtype=torch.uint8), torch.ones(2), 3.5]
)
def test_facts_that_are_not_understood_are_refused(damaged: Any) -> None:
    model = network()
    with pytest.raises(WeightsError, match="not understood"):
        model.load_state_dict({**model.state_dict(), EXTRA: damaged})


# --------------------------------------------------------------- copies and wrappers


def test_tensors_by_name_survive_what_programs_do_with_them() -> None:
    model = potential().set_units(ENERGIES)
    state = model.state_dict()
    kinds: list[Callable[[Tensor], Tensor]] = [Tensor.clone, Tensor.cpu, Tensor.double]
    for change in kinds:
        model.load_state_dict({name: change(value) for name, value in state.items()})
    with torch.device("meta"):
        assert potential().state_dict()[EXTRA].device.type == "cpu"
    model.load_state_dict({**state, EXTRA: state[EXTRA].to("meta")})
    found = torch.func.functional_call(model, dict(state), (Z, POS))
    assert torch.equal(found, model(Z, POS))


def test_copies_and_wrappers_keep_the_facts(tmp_path: Path) -> None:
    model = potential().set_units(ENERGIES)
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert again.state_dict()[EXTRA].equal(model.state_dict()[EXTRA])
    mean = AveragedModel(model)
    mean.update_parameters(model)
    mean.load_state_dict(mean.state_dict())
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(network())
        parallel.load_state_dict(parallel.state_dict())
        other = DistributedDataParallel(network(species=[1, 7, 8]))
        with pytest.raises(WeightsError, match="species"):
            other.load_state_dict(parallel.state_dict())
    finally:
        torch.distributed.destroy_process_group()


def test_a_lazy_layer_compares_too() -> None:
    given = conv(harmonics="solid")
    with pytest.raises(WeightsError, match="harmonics"):
        conv(in_channels=-1).load_state_dict(given.state_dict())


def test_levels_move_to_a_network_with_another_head() -> None:
    given, other = network(), network(head="dipole")
    state = {k: v for k, v in given.state_dict().items() if not k.startswith("head.")}
    found = other.load_state_dict(state, strict=False)
    assert all(name.startswith("head.") for name in found.missing_keys)


def test_weights_of_potentials_from_before_are_read() -> None:
    """They had no module around the network, and one record of facts."""
    given = potential(repulsion="zbl").set_units(ENERGIES, scale=0.5)
    state = given.state_dict()
    old = {
        k.removeprefix("network."): v for k, v in state.items() if "network._" not in k
    }
    other = potential(repulsion="zbl", lmax=1)
    torch.nn.init.zeros_(next(iter(other.parameters())))
    assert other.load_state_dict(old).missing_keys == []
    assert torch.equal(
        other.evaluate(Z, POS).energy.detach(), given.evaluate(Z, POS).energy.detach()
    )
    whole = nn.ModuleDict({"model": other, "beside": nn.Linear(1, 1)})
    named = {f"model.{k}": v for k, v in old.items()}
    named |= {f"beside.{k}": v for k, v in whole["beside"].state_dict().items()}
    whole.load_state_dict(named)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.load_state_dict({**old, "odd.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="species is"):
        potential(species=[1, 7, 8]).load_state_dict(old)
