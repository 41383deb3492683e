"""Every number of the network fixtures, on the fast and on the reference path."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torch_cormorant import CormorantConv, CormorantMD17, EdgeGeometry
from torch_cormorant.conv.inputs import as_internal
from torch_cormorant.nn import MPNNInput, scalars
from torch_cormorant.ops import folded_square, neighbour_sum, reference
from torch_cormorant.ops.cg_product import product
from torch_cormorant.so3 import to_complex_basis

Array = np.ndarray[Any, Any]
BACKENDS = ("portable", "reference")
SMALL = [
    f"{kind}_small_{harmonics}_{case}"
    for kind in ("qm9", "md17")
    for harmonics in ("solid", "unit")
    for case in ("all", "hard")
]
PAPER = [
    f"{kind}_paper_{case}"
    for kind in ("qm9", "md17")
    for case in ("solid_default", "solid_hard", "unit_all", "unit_hard")
]
NETWORKS = SMALL + PAPER
ALL_PAIRS = [name for name in SMALL if name.endswith("_all")]


def test_no_network_fixture_is_left_out(parity: Path) -> None:
    files = {path.stem for path in parity.glob("*_*_*_*.npz")}
    found = {name for name in files if name.startswith(("qm9", "md17"))}
    assert found == set(NETWORKS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_levels_and_gradients_equal_the_original(
    name: str,
    backend: str,
    network: Callable[[str], Any],
    close: Callable[..., None],
) -> None:
    fixture = network(name)
    model = fixture.model()
    model.set_backend(backend)
    pos = fixture.tensor("pos").requires_grad_()
    out, levels = model(
        fixture.tensor("charges"), pos, fixture.tensor("batch"), return_levels=True
    )
    close(out.squeeze(1), fixture.case["out"])
    compared = 0
    for s, level in enumerate(levels):
        for l, part in enumerate(to_complex_basis(level)):
            close(part, fixture.case[f"level{s}_atom_l{l}"])
            compared += 1
    stored = [key for key in fixture.case if "_atom_l" in key and key[:5] == "level"]
    assert compared == len(stored)
    real = scalars(levels).unflatten(1, (-1, 2))
    close(torch.view_as_complex(real.contiguous()), fixture.case["scalars"])
    (gradient,) = torch.autograd.grad(out.sum(), pos)
    close(gradient, fixture.case["grad_pos"])


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_edges_takes_the_edges_of_the_original(
    name: str, network: Callable[[str], Any], close: Callable[..., None]
) -> None:
    fixture = network(name)
    out = fixture.model().forward_edges(
        fixture.tensor("charges"),
        fixture.tensor("edge_index"),
        fixture.tensor("edge_vec"),
        batch=fixture.tensor("batch"),
    )
    close(out.squeeze(1), fixture.case["out"])


@pytest.mark.parametrize("name", NETWORKS)
def test_inputs_and_harmonics_equal_the_original(
    name: str, network: Callable[[str], Any], close: Callable[..., None]
) -> None:
    fixture = network(name)
    model, case = fixture.model(), fixture.case
    geometry = EdgeGeometry.from_pos(
        fixture.tensor("pos"),
        fixture.tensor("edge_index"),
        harmonics=model.harmonics,
    )
    close(geometry.edge_vec, case["edge_vec"])
    close(geometry.edge_length, case["edge_dist"])
    sh = geometry.sh(max(model.lmax_sh))
    for l, part in enumerate(to_complex_basis(sh[:, :, None, None])):
        if "sph_l0" in case:
            close(part.squeeze(1), case[f"sph_l{l}"])
    features = model.features(fixture.tensor("charges"), torch.float64)
    close(features, case["atom_scalars"])
    h = model.input(features, geometry)
    if isinstance(model.input, MPNNInput):
        close(h, case["mpnn0_mlp_out"])
    close(torch.view_as_complex(h.unflatten(1, (-1, 2)))[..., None], case["input_l0"])


@pytest.mark.parametrize("name", [n for n in NETWORKS if n.startswith("qm9")])
def test_steps_of_the_message_passing_input_equal_the_original(
    name: str, network: Callable[[str], Any], close: Callable[..., None]
) -> None:
    fixture = network(name)
    model, case = fixture.model(), fixture.case
    geometry = EdgeGeometry.from_pos(
        fixture.tensor("pos"), fixture.tensor("mpnn_edge_index")
    )
    layer = model.input
    h = model.features(fixture.tensor("charges"), torch.float64)
    seen: dict[str, Tensor] = {}
    layer.mlps[0].register_forward_pre_hook(
        lambda _, args: seen.__setitem__("mlp_in", args[0])
    )
    layer.filters[0].register_forward_hook(
        lambda *args: seen.__setitem__("filter", args[2])
    )
    close(layer(h, geometry), case["mpnn0_mlp_out"])
    if "mpnn0_mlp_in" in case:
        close(seen["mlp_in"], case["mpnn0_mlp_in"])
        mask = torch.sigmoid((1.73 - geometry.edge_length) / 0.2).unsqueeze(1)
        close(seen["filter"] * mask, case["mpnn0_edge"])


@pytest.mark.parametrize(
    ("name", "backend", "pairs"),
    [(name, "portable", True) for name in NETWORKS]
    + [(name, "portable", False) for name in ALL_PAIRS]
    + [(name, "reference", False) for name in NETWORKS],
)
def test_every_step_of_every_level_equals_the_original(
    name: str,
    backend: str,
    pairs: bool,
    network: Callable[[str], Any],
    close: Callable[..., None],
    theirs: Callable[..., list[Tensor]],
) -> None:
    fixture = network(name)
    model, case = fixture.model(), fixture.case
    geometry = EdgeGeometry.from_pos(
        fixture.tensor("pos"),
        fixture.tensor("edge_index"),
        harmonics=model.harmonics,
        pairs=pairs,
    )
    assert geometry.shared is pairs
    source, target = geometry.edge_index
    left = {key for key in case if key.startswith("level")}

    def compare(found: Tensor, key: str, factor: float | Array = 1.0) -> None:
        if key in case:
            close(found, case[key] * factor)
            left.discard(key)

    h = model.input(model.features(fixture.tensor("charges"), torch.float64), geometry)
    features = h.unflatten(-1, (-1, 2)).transpose(1, 2).unsqueeze(1)
    step, state = (_slow if backend == "reference" else _fast), None
    for s, conv in enumerate(model.convs):
        x, table = as_internal(features, 2), conv.vertex.sum_paths
        radial = conv.edge_network.radial(geometry.edge_length).unflatten(-1, (-1, 2))
        compare(torch.view_as_complex(radial), f"level{s}_rad")
        compare(reference.edge_dots(x, x, target, source).flatten(1), f"level{s}_dot")
        state, sums, features = step(conv, x, geometry, state)
        edge = state if backend == "reference" else geometry.to_edges(state)
        assert edge.shape[0] == source.numel()
        mask = conv.edge_network.cutoff(geometry.edge_length).detach().numpy()
        for l in range(conv.lmax_sh + 1):
            compare(edge[:, l], f"level{s}_edge_l{l}")
            compare(edge[:, l], f"level{s}_edge_premask_l{l}", mask)
        for l, part in enumerate(theirs(sums, table)):
            compare(part, f"level{s}_ag_l{l}")
        squares = product(x, x, conv.vertex.square_paths)
        for l, part in enumerate(theirs(squares, conv.vertex.square_paths)):
            compare(part, f"level{s}_sq_l{l}")
        _check_folded(x, conv.vertex, squares, close)
        for l, part in enumerate(to_complex_basis(features)):
            compare(part, f"level{s}_atom_l{l}")
    assert not left


def _fast(
    conv: CormorantConv, x: Tensor, geometry: EdgeGeometry, state: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Edge scalars, aggregate and output of a level."""
    g = conv.edge_network(x, x, geometry, state)
    sh = geometry.sh(conv.lmax_sh)
    sums = neighbour_sum(x, g, sh, geometry.plan, conv.vertex.sum_paths)
    return g, sums, conv.vertex(sums, x)


def _slow(
    conv: CormorantConv, x: Tensor, geometry: EdgeGeometry, state: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """The same, edge by edge."""
    index, sh = geometry.edge_index, geometry.sh(conv.lmax_sh)
    dots = reference.edge_dots(x, x, index[1], index[0])
    g = conv.edge_network.reference(dots, geometry.edge_length, state, None)
    sums = reference.neighbour_sum(x, g, sh, index, x.shape[0], conv.vertex.sum_paths)
    mixed = conv.vertex.reference(sums, x)
    return g, sums, torch.stack([mixed.real, mixed.imag], dim=2)


def _check_folded(
    x: Tensor, vertex: Any, squares: tuple[Tensor, ...], close: Callable[..., None]
) -> None:
    """The folded square is what the full one holds at the same paths."""
    folded = folded_square(x, vertex.folded_paths)
    for l, part in enumerate(folded):
        full = [path for path in vertex.square_paths.paths if path[2] == l]
        kept = [path for path in vertex.folded_paths.paths if path[2] == l]
        close(part, squares[l][:, :, [full.index(path) for path in kept]])


@pytest.mark.parametrize("name", [n for n in NETWORKS if n.startswith("qm9")])
def test_first_part_of_the_readout_equals_the_original(
    name: str, network: Callable[[str], Any], close: Callable[..., None]
) -> None:
    fixture = network(name)
    model = fixture.model()
    values = torch.view_as_real(fixture.tensor("scalars")).flatten(1)
    close(model.head.mlp1(values), fixture.case["out_mlp1"])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ALL_PAIRS)
def test_gradients_of_the_weights_equal_the_original(
    name: str,
    backend: str,
    network: Callable[[str], Any],
    close: Callable[..., None],
) -> None:
    fixture = network(name)
    model = fixture.model()
    model.set_backend(backend)
    tensors = [fixture.tensor(key) for key in ("charges", "pos", "batch")]
    model(*tensors).sum().backward()
    # A weight column of an odd path is i times the original's, W = i V, and the
    # gradient d/dRe + i d/dIm of V is -i times that of W: gradients are mapped back
    # by the same division by the phase as weights.
    slopes = deepcopy(model)
    with torch.no_grad():
        for slot, parameter in zip(
            slopes.parameters(), model.parameters(), strict=True
        ):
            assert parameter.grad is not None
            slot.copy_(parameter.grad)
    found = slopes.to_original()
    stored = {key[6:]: value for key, value in fixture.case.items() if "gradw" in key}
    assert set(found) == set(stored)
    for key, expected in stored.items():
        assert np.abs(expected).max() > 0
        close(found[key], expected)


def test_degrees_that_no_product_reaches_are_those_of_the_original(
    parity: Path, read: Callable[[str], dict[str, Array]]
) -> None:
    path = parity / "reference_numpy.py"  # the formulas alone, on edge lists
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    case = read("md17_small_unit_all")
    kept = ("pos", "charges", "batch", "edge_index")
    case = {k: v for k, v in case.items() if k in kept or k.startswith("cfg_")}
    sizes = {"num_cg_levels": 2, "maxl": [3, 2], "max_sh": [2, 3]}
    case |= {f"cfg_{name}": np.array(value) for name, value in sizes.items()}
    options = {"num_levels": 2, "lmax": (3, 2), "lmax_sh": (2, 3), "channels": 3}
    species, basis = case["cfg_species"].tolist(), tuple(case["cfg_basis_set"].tolist())
    model = CormorantMD17(species=species, basis_set=basis, **options).double()
    weights = model.to_original()
    assert "atom0_weight_l2" in weights
    assert "atom0_weight_l3" not in weights
    again = CormorantMD17.from_original(
        weights,
        {
            **sizes,
            "num_channels": 3,
            "species": species,
            "basis_set": basis,
            "sph_normalize": True,
        },
    )
    given = (torch.tensor(case[name]) for name in kept[1::-1])
    out, levels = again(*given, torch.tensor(case["batch"]), return_levels=True)
    assert [level.shape[1] for level in levels] == [9, 9]
    case["out"] = out.detach().squeeze(1).numpy()
    case |= {f"scale_{name.replace('_weight', '')}": 1.0 for name in weights}
    assert oracle.run(case, weights)["out"] < 1e-10
