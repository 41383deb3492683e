from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from torch_cormorant import Cormorant, CormorantMD17, CormorantQM9, radius_graph
from torch_cormorant.errors import (
    ArgumentError,
    CoincidentAtomsError,
    ConfigError,
    CormorantError,
    DegreeError,
    DeviceError,
    DtypeError,
    EdgeBudgetError,
    EdgeIndexError,
    NonFiniteError,
    ShapeError,
    SpeciesError,
)
from torch_cormorant.graph import all_pairs

Molecules = Callable[..., tuple[Tensor, Tensor, Tensor]]

SMALL: dict[str, Any] = {
    "channels": 4,
    "num_levels": 2,
    "lmax": 2,
    "hidden": 16,
    "init": "fan_in",
    "gain": 1.0,
}


def small(kind: type[Cormorant] = Cormorant, **options: Any) -> Cormorant:
    torch.manual_seed(0)
    if kind is CormorantMD17:
        options.setdefault("species", (1, 6, 7, 8, 9))
    return kind(**{**SMALL, **options}).double()


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_published_networks_have_their_number_of_parameters() -> None:
    assert count(CormorantQM9()) == 299_808
    assert count(CormorantMD17(species=[1, 6, 8])) == 154_241
    # the supplement's text, and the other species of MD17: counts of original.md
    assert count(CormorantQM9(middle=96)) == 316_224
    assert count(CormorantQM9(cutoff_type="soft")) == 299_680
    assert count(CormorantQM9(lmax=3)) == 367_392
    assert count(CormorantQM9(lmax_sh=3)) == 310_560
    assert count(CormorantMD17(species=[1, 6])) == 154_145
    assert count(CormorantMD17(species=[1, 6, 7, 8])) == 154_337
    assert count(CormorantMD17(lmax=(3, 3, 3, 0))) == 111_137


def test_published_networks_take_all_pairs_and_unit_harmonics() -> None:
    for model in (CormorantQM9(), CormorantMD17()):
        assert model.cutoff is None
        assert model.harmonics == "unit"
        assert all(conv.init == "published" for conv in model.convs)
        assert all(conv.gain == 5 for conv in model.convs)
        assert all(c.edge_network.envelope_cutoff is None for c in model.convs)
    assert CormorantQM9().features.charge_scale == 9
    assert CormorantMD17().features.charge_scale == 8


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear_input": {"input": "linear"},
    "linear_readout": {"head": "linear"},
    "atomwise": {"head": "extensive", "activation": "silu"},
    "targets": {"num_targets": 3},
    "degrees": {"lmax": (2, 1), "lmax_sh": (2, 3)},
    "unreached": {"lmax": (3, 2), "lmax_sh": (2, 3)},
    "unreached_even": {"lmax": 3, "lmax_sh": (1, 0), "paths": "even", "gate": True},
    "channels": {"channels": (3, 4, 5)},
    "norm_and_gate": {"norm": "norm", "gate": True},
    "real": {"complex": False, "gate": True, "norm": "norm"},
    "even": {"paths": "even"},
    "gaussian": {"radial": "gaussian", "gaussian_mask": True},
    "power_trig": {"radial": "power_trig"},
    "solid": {"harmonics": "solid"},
    "all_pairs": {"cutoff": None},
    "hard": {"cutoff_type": ("hard", "learn")},
    "layers": {"num_mpnn_layers": 2},
    "short": {"cutoff": 1.5},
    "one_level": {"num_levels": 1, "lmax": 0},
}


@pytest.mark.parametrize("name", list(OPTIONS))
def test_both_paths_agree_for_every_option(name: str, molecules: Molecules) -> None:
    model = small(**OPTIONS[name])
    z, pos, batch = molecules(6, 1, 5)
    found = []
    for backend in ("portable", "reference"):
        model.set_backend(backend)
        leaf = pos.clone().requires_grad_()
        out, levels = model(z, leaf, batch, return_levels=True)
        assert out.shape == (3, model.num_targets)
        (gradient,) = torch.autograd.grad(out.square().sum(), leaf)
        found.append([out.detach(), *(x.detach() for x in levels), gradient])
    for s, level in enumerate(found[0][1:-1]):
        degree, width = model.lmax[s], model.channels[s + 1]
        assert level.shape == (12, (degree + 1) ** 2, model.planes, width)
    for a, b in zip(*found, strict=True):
        assert float((a - b).abs().max()) <= 1e-11 * float(b.abs().max())


def test_degrees_that_no_product_reaches_are_absent(molecules: Molecules) -> None:
    asked, plain = (
        small(lmax=lmax, lmax_sh=(2, 3), norm="norm") for lmax in ((3, 2), (2, 2))
    )
    assert asked.lmax == [2, 2]
    assert asked.config["lmax"] == [3, 2]
    z, pos, batch = molecules(4, 2)
    assert torch.equal(asked(z, pos, batch), plain(z, pos, batch))


@pytest.mark.parametrize("kind", [Cormorant, CormorantQM9, CormorantMD17])
def test_forward_builds_the_graph_for_forward_edges(
    kind: type[Cormorant], molecules: Molecules
) -> None:
    model = small(kind)
    z, pos, batch = molecules(6, 1, 5)
    expected, levels = model(z, pos, batch, return_levels=True)
    if model.cutoff is None:
        index = all_pairs(batch)
    else:
        index = radius_graph(pos, model.cutoff, batch)
    vec = pos[index[1]] - pos[index[0]]
    out, others = model.forward_edges(z, index, vec, batch=batch, return_levels=True)
    torch.testing.assert_close(out, expected, rtol=1e-13, atol=1e-13)
    for a, b in zip(levels, others, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    # Self edges may be given or not: each atom has exactly one.
    loops = torch.arange(12).repeat(2, 1)
    more = torch.cat([index, loops, loops[:, 3:5]], dim=1)
    vectors = torch.cat([vec, torch.zeros(14, 3).double()])
    again = model.forward_edges(z, more, vectors, batch=batch, num_graphs=3)
    torch.testing.assert_close(again, expected, rtol=1e-13, atol=1e-13)


def test_periodic_images_of_an_atom_are_edges_like_others() -> None:
    model = small(input="linear")
    z, index = torch.tensor([6]), torch.zeros(2, 2, dtype=torch.long)
    vec = torch.tensor([[0.0, 0, 2], [0, 0, -2]], dtype=torch.float64)
    chain = model.forward_edges(z, index, vec)
    alone = model.forward_edges(z, index[:, :0], vec[:0])
    assert not torch.allclose(chain, alone)
    longer = model.forward_edges(
        torch.tensor([6, 6]),
        torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0]]),
        torch.cat([vec, -vec])[[0, 1, 3, 2]],
    )
    assert longer.shape == (1, 1)


def test_batch_of_torch_geometric(molecules: Molecules) -> None:
    model = small()
    z, pos, batch = molecules(4, 6)
    graphs = [Data(z=z[batch == k], pos=pos[batch == k]) for k in range(2)]
    data = Batch.from_data_list(graphs)
    assert torch.equal(model(data.z, data.pos, data.batch), model(z, pos, batch))


def test_one_molecule_needs_no_batch(molecules: Molecules) -> None:
    model = small()
    z, pos, batch = molecules(5)
    assert torch.equal(model(z, pos), model(z, pos, batch))


def test_number_of_molecules(molecules: Molecules) -> None:
    model = small()
    z, pos, batch = molecules(5, 3)
    assert model(z, pos, batch, num_graphs=4).shape == (4, 1)
    assert model(z[:0], pos[:0]).shape == (1, 1)
    assert model(z[:0], pos[:0], batch[:0], num_graphs=2).shape == (2, 1)
    assert model(z[:0], pos[:0], batch[:0]).shape == (0, 1)
    with pytest.raises(ShapeError, match="num_graphs is 1"):
        model(z, pos, batch, num_graphs=1)


def test_forces_are_the_negative_gradient(molecules: Molecules) -> None:
    model = small()
    z, pos, batch = molecules(5, 3)
    kept = pos.clone()
    energy, forces = model.energy_and_forces(z, pos, batch)
    assert energy.shape == (2,)
    assert forces.shape == (8, 3)
    assert torch.equal(pos, kept)
    assert not pos.requires_grad
    leaf = pos.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(z, leaf, batch).sum(), leaf)
    torch.testing.assert_close(forces, -gradient, rtol=0, atol=0)


def test_forces_in_evaluation_mode_carry_no_graph(molecules: Molecules) -> None:
    model = small().eval()
    z, pos, batch = molecules(5)
    with torch.no_grad():
        energy, forces = model.energy_and_forces(z, pos, batch)
    assert not energy.requires_grad
    assert not forces.requires_grad
    model.train()
    energy, forces = model.energy_and_forces(z, pos, batch)
    (forces.square().sum() + energy.sum()).backward()
    used = [p.grad is not None for p in model.parameters()]
    assert sum(used) >= len(used) - 2  # the last bias acts on energies only


def test_forces_of_an_empty_molecule_and_of_one_atom() -> None:
    model = small()
    for nodes in (0, 1):
        z = torch.full((nodes,), 6)
        energy, forces = model.energy_and_forces(z, torch.zeros(nodes, 3).double())
        assert energy.shape == (1,)
        assert not forces.any()
    with pytest.raises(ConfigError, match="one target"):
        small(num_targets=2).energy_and_forces(z, torch.zeros(1, 3).double())


def test_copies_pickles_and_state_dicts(molecules: Molecules) -> None:
    model = small(gate=True, norm="norm")
    tensors = molecules(5, 3)
    expected = model(*tensors)
    assert torch.equal(copy.deepcopy(model)(*tensors), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(*tensors), expected)  # noqa: S301
    other = small(gate=True, norm="norm")
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(*tensors), expected)


@pytest.mark.parametrize("through", [torch.float32, torch.bfloat16])
def test_a_converted_model_equals_a_fresh_one(
    through: torch.dtype, molecules: Molecules
) -> None:
    """No constant is ever kept in a lower precision."""
    tensors = molecules(5, 3)
    converted = small(CormorantQM9).to(through).double()
    fresh = small(CormorantQM9)
    fresh.load_state_dict(converted.state_dict())
    assert torch.equal(converted(*tensors), fresh(*tensors))
    single = small(CormorantQM9).float()
    values = tensors[0], tensors[1].float(), tensors[2]
    before = single(*values)
    assert before.dtype == torch.float32
    assert torch.equal(single.double().float()(*values), before)


def test_positions_may_have_more_precision_than_the_weights(
    molecules: Molecules,
) -> None:
    model = small().float()
    z, pos, batch = molecules(5, 3)
    out = model(z, pos, batch)
    assert out.dtype == torch.float32
    far = model(z, pos + 1e6, batch)
    torch.testing.assert_close(far, out, rtol=1e-4, atol=1e-4)
    energy, forces = model.energy_and_forces(z, pos, batch)
    assert energy.dtype == torch.float64
    assert forces.dtype == torch.float64


def test_soft_radius_is_clamped_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = small(cutoff=1.5, soft_radius=2.0)
    assert "clamped" in caplog.text
    assert model.convs[0].edge_network.cutoff.soft_radius == 1.5
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        small(cutoff=5.0)
    assert not caplog.text


def test_a_message_passing_input_never_looks_beyond_the_cutoff() -> None:
    assert small(cutoff=1.5).input.hard_radius == 1.5
    assert small(cutoff=5.0).input.hard_radius == 5.0
    assert small(cutoff=5.0).input.smooth
    assert small(cutoff=5.0, envelope=False).input.hard_radius == 1.73
    assert small(cutoff=1.5, envelope=False).input.hard_radius == 1.5
    assert not CormorantQM9(cutoff=5.0).input.smooth
    assert small(cutoff=5.0, mpnn_cutoff=3.0).input.hard_radius == 3.0


def test_too_many_pairs_are_refused(molecules: Molecules) -> None:
    z, pos, batch = molecules(8, 8)
    model = small(cutoff=None, max_edges=127)
    with pytest.raises(EdgeBudgetError, match="cutoff"):
        model(z, pos, batch)
    small(cutoff=None, max_edges=128)(z, pos, batch)


@pytest.mark.parametrize(
    "options",
    [
        {"num_levels": 0},
        {"lmax": (2, 2, 2)},
        {"lmax": 9},
        {"lmax": (2, -1)},
        {"lmax_sh": (1,)},
        {"channels": (4, 4)},
        {"channels": 0},
        {"species": ()},
        {"species": (6, 6)},
        {"species": (0, 6)},
        {"num_targets": 0},
        {"input": "none"},
        {"head": "none"},
        {"norm": "batch"},
        {"activation": "gelu"},
        {"cutoff": -1.0},
        {"cutoff": float("nan")},
        {"num_mpnn_layers": 0},
        {"charge_scale": 0.0},
        {"charge_power": -1},
        {"radial": "bessel", "cutoff": None},
        {"cutoff_type": "hard", "cutoff": None},
        {"harmonics": "none"},
    ],
    ids=str,
)
def test_contradicting_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, SpeciesError, DegreeError)) as caught:
        Cormorant(**{**SMALL, **options})
    assert len(str(caught.value)) > 15


@pytest.mark.parametrize("kind", [Cormorant, CormorantQM9, CormorantMD17])
def test_unknown_arguments_are_refused(kind: type[Cormorant]) -> None:
    with pytest.raises(TypeError, match="Cormorant has no argument 'no_such'"):
        kind(no_such=1)
    with pytest.raises(ArgumentError, match="'chanels'; did you mean 'channels'"):
        kind(chanels=8)
    with pytest.raises(ArgumentError, match="'soft_radi'; did you mean 'soft_radius'"):
        kind(soft_radi=3.0)
    with pytest.raises(ArgumentError, match="no argument 'edge_dim'"):
        kind(edge_dim=2)  # the layers' own, but the network has no edge invariants


def test_a_batch_instead_of_tensors_is_named(molecules: Molecules) -> None:
    z, pos, _ = molecules(3)
    model = small()
    batch = Batch.from_data_list([Data(z=z, pos=pos)])
    message = r"got one DataBatch; call model\(batch.z, batch.pos, batch.batch\)"
    with pytest.raises(ArgumentError, match=message):
        model(batch)
    with pytest.raises(TypeError, match="got one Tensor"):
        model(z)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_named(
    dtype: torch.dtype, molecules: Molecules
) -> None:
    z, pos, _ = molecules(3)
    model = small().to(dtype)
    message = f"the weights are {dtype}; .* model.float"
    with pytest.raises(DtypeError, match=message):
        model(z, pos)
    index = torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(DtypeError, match=message):
        model.forward_edges(z, index, torch.eye(3)[:2])


Z, POS = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
ZERO = torch.zeros(3, dtype=torch.long)


def spoiled(value: float) -> Tensor:
    pos = POS.clone()
    pos[1, 2] = value
    return pos


FAULTS: dict[str, tuple[dict[str, Any], type[CormorantError], str]] = {
    "nan": ({"pos": spoiled(torch.nan)}, NonFiniteError, "pos .*atom 1"),
    "inf": ({"pos": spoiled(torch.inf)}, NonFiniteError, "pos .*atom 1"),
    "overflow": ({"pos": spoiled(1e30)}, DtypeError, "pos reaches"),
    "pos_shape": ({"pos": POS[:, :2]}, ShapeError, r"pos must have shape \[N, 3\]"),
    "pos_axes": ({"pos": POS.flatten()}, ShapeError, "pos must have shape"),
    "pos_integer": ({"pos": POS.long()}, DtypeError, "pos must be a floating"),
    "pos_half": ({"pos": POS.half()}, DtypeError, "pos"),
    "pos_complex": ({"pos": POS + 0j}, DtypeError, "pos must be a floating"),
    "pos_list": ({"pos": POS.tolist()}, DtypeError, "pos must be"),
    "z_length": (
        {"z": Z[:2]},
        ShapeError,
        r"z must have shape \[3\], .* row of pos \(3, 3\), got \(2,\)",
    ),
    "z_axes": ({"z": Z[:, None]}, ShapeError, "z must have shape"),
    "z_float": ({"z": Z.float()}, DtypeError, "z must be an integer"),
    "z_bool": ({"z": Z > 1}, DtypeError, "z must be an integer"),
    "z_list": ({"z": Z.tolist()}, DtypeError, "z must be"),
    "z_unknown": ({"z": torch.tensor([8, 1, 92])}, SpeciesError, r"92 \(atom 2\)"),
    "z_zero": ({"z": torch.tensor([0, 1, 1])}, SpeciesError, r"0 \(atom 0\)"),
    "z_negative": ({"z": torch.tensor([8, 1, -1])}, SpeciesError, r"-1 \(atom 2\)"),
    "z_device": ({"z": Z.to("meta")}, DeviceError, "z lies on meta"),
    "batch_length": ({"batch": ZERO[:2]}, ShapeError, "batch must have shape"),
    "batch_float": ({"batch": ZERO.float()}, DtypeError, "batch must be"),
    "batch_negative": ({"batch": ZERO - 1}, CormorantError, "batch holds -1"),
    "batch_device": ({"batch": ZERO.to("meta")}, DeviceError, "batch lies on meta"),
    "coincident": ({"pos": 0 * POS}, CoincidentAtomsError, "nodes"),
    "coincident_1e-12": ({"pos": 1e-12 * POS}, CoincidentAtomsError, "nodes"),
    "coincident_1e-300": (
        {"pos": 1e-300 * POS.double()},
        CoincidentAtomsError,
        "nodes",
    ),
}


@pytest.mark.parametrize("cutoff", [5.0, None])
@pytest.mark.parametrize("fault", list(FAULTS))
def test_faults_are_named(fault: str, cutoff: float | None) -> None:
    change, error, message = FAULTS[fault]
    model = small(cutoff=cutoff).float()
    arguments = {"z": Z, "pos": POS, "batch": ZERO}
    model(**arguments)
    with pytest.raises(error, match=message):
        model(**{**arguments, **change})


def test_a_type_that_cannot_tell_atoms_apart_is_named() -> None:
    model = small().float()
    model(Z, POS + 1e4)
    with pytest.raises(DtypeError, match=r"pos reaches 1e\+06 .* use float64"):
        model(Z, POS + 1e6)
    model(Z, POS.double() + 1e6)


def test_faults_of_edges_are_named() -> None:
    model = small(cutoff=None).float()
    index = torch.tensor([[0, 1], [1, 0]])
    vec = torch.tensor([[1.0, 0, 0], [-1, 0, 0]])
    model.forward_edges(Z, index, vec)
    faults: list[tuple[dict[str, Any], type[CormorantError], str]] = [
        ({"edge_index": index + 2}, EdgeIndexError, "edge_index"),
        ({"edge_index": index - 1}, EdgeIndexError, "edge_index"),
        ({"edge_index": index[0]}, ShapeError, "edge_index"),
        ({"edge_vec": vec[:1]}, ShapeError, "edge_vec"),
        ({"edge_vec": vec * torch.nan}, NonFiniteError, "edge_vec"),
        ({"edge_vec": vec * 0}, CoincidentAtomsError, "nodes 0 and 1"),
        ({"z": Z.float()}, DtypeError, "z must be"),
        ({"batch": ZERO[:2]}, ShapeError, "batch"),
        ({"num_graphs": 0}, ShapeError, "num_graphs"),
    ]
    for change, error, message in faults:
        arguments = {"z": Z, "edge_index": index, "edge_vec": vec, **change}
        with pytest.raises(error, match=message):
            model.forward_edges(**arguments)


def test_unknown_backend_is_refused() -> None:
    model = small()
    with pytest.raises(ConfigError, match="no_such"):
        model.set_backend("no_such")


@pytest.mark.parametrize("scale", [0.1, 0.2])
def test_positions_in_nanometres_are_named_instead_of_nan(scale: float) -> None:
    z = torch.tensor([8, 1, 1])
    pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
    with pytest.raises(NonFiniteError, match=r"atoms 1 and 0 are .* Angstrom apart"):
        CormorantQM9()(z, scale * pos)


def test_forces_without_gradient_mode_carry_no_graph() -> None:
    z = torch.tensor([8, 1, 1])
    pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
    model = CormorantQM9()
    expected = [value.detach() for value in model.energy_and_forces(z, pos)]
    with torch.no_grad():
        results = model.energy_and_forces(z, pos)
    for result, value in zip(results, expected, strict=True):
        assert not result.requires_grad
        torch.testing.assert_close(result, value)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"species": ("H", "C")}, SpeciesError),
        ({"species": 6}, SpeciesError),
        ({"species": (1.5,)}, SpeciesError),
        ({"cutoff": "5"}, ConfigError),
        ({"num_levels": 2.5}, ConfigError),
        ({"avg_num_neighbors": 0}, ConfigError),
        ({"gain": float("nan")}, ConfigError),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(
    options: dict[str, object], error: type[CormorantError]
) -> None:
    with pytest.raises(error, match=next(iter(options))):
        Cormorant(**options)  # type: ignore[arg-type]
