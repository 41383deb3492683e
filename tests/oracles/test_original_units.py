"""Single classes of the published code, one call each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torch_cormorant import EdgeGeometry, cg_product
from torch_cormorant.nn import (
    AtomFeatures,
    EdgeNetwork,
    HeadInput,
    LinearHead,
    LinearInput,
    MPNNInput,
    PowerTrig,
    PublishedHead,
    SoftCutoff,
    VertexMixing,
    scalars,
)
from torch_cormorant.ops import PathTable, neighbour_sum, reference, to_complex
from torch_cormorant.so3 import to_complex_basis

Arrays = dict[str, np.ndarray[Any, Any]]
Read = Callable[[str], Arrays]
Close = Callable[..., None]
Ours = Callable[[Arrays, str], Tensor]
Theirs = Callable[..., list[Tensor]]


def fill(parameter: Tensor, array: np.ndarray[Any, Any]) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(array))


def graph(case: Arrays, **options: Any) -> EdgeGeometry:
    index = torch.tensor(case["edge_index"])
    return EdgeGeometry.from_pos(torch.tensor(case["pos"]), index, **options)


@pytest.mark.parametrize(
    ("name", "second", "lmax"),
    [
        ("ab_maxl3", "b", 3),
        ("ab_maxl2", "b", 2),
        ("ab_full", "b", 6),
        ("aa_maxl3", "a", 3),
    ],
)
def test_cg_product(
    name: str,
    second: str,
    lmax: int,
    read: Read,
    close: Close,
    ours: Ours,
    theirs: Theirs,
) -> None:
    case = read("unit_cgproduct")
    a, b = ours(case, "a"), ours(case, second)
    table = PathTable(3, 3, lmax)
    found = [
        to_complex(part.unflatten(-1, (-1, 4)).movedim(-2, 2))
        for part in cg_product(a, b, lmax)
    ]
    assert len(found) == lmax + 1
    for l, part in enumerate(theirs(found, table)):
        close(part, case[f"{name}_l{l}"])


@pytest.mark.parametrize("basis", [(3, 3), (1, 4)])
@pytest.mark.parametrize("values", ["init", "rand"])
def test_radial_functions(
    values: str, basis: tuple[int, int], read: Read, close: Close
) -> None:
    case = read("unit_radial")
    name = f"{values}_T{basis[0]}_P{basis[1]}"
    radial = PowerTrig(basis).double()
    if values == "init":
        # The original starts with pi/2 once exact and else rounded to float32.
        close(radial.scales, case[f"{name}_scales"])
        close(radial.phases, case[f"{name}_phases"], rtol=6e-8)
    fill(radial.scales, case[f"{name}_scales"])
    fill(radial.phases, case[f"{name}_phases"])
    there = case["edge_mask"]
    found = radial(torch.tensor(case["r"])).unflatten(-1, (-1, 2))
    assert found.shape[1] == radial.out_channels
    close(torch.view_as_complex(found)[there], case[name][there])


@pytest.mark.parametrize("basis", [(3, 3), (1, 4)])
@pytest.mark.parametrize("kind", ["real", "cplx"])
def test_radial_filters(
    kind: str, basis: tuple[int, int], read: Read, close: Close
) -> None:
    case = read("unit_radial")
    name = f"T{basis[0]}_P{basis[1]}"
    radial = PowerTrig(basis, complex=False).double()
    fill(radial.scales, case[f"rand_{name}_scales"])
    fill(radial.phases, case[f"rand_{name}_phases"])
    values = radial(torch.tensor(case["r"]))
    values = values * torch.tensor(case["edge_mask"])[:, None]
    for l in range(2):
        weight = torch.tensor(case[f"{kind}_{name}_l{l}_weight"])
        linear = nn.Linear(radial.out_channels, len(weight)).double()
        fill(linear.weight, case[f"{kind}_{name}_l{l}_weight"])
        fill(linear.bias, case[f"{kind}_{name}_l{l}_bias"])
        found = linear(values)
        if kind == "cplx":
            found = torch.view_as_complex(found.unflatten(-1, (-1, 2)))
        else:
            found = found.to(torch.complex128)
        close(found, case[f"{kind}_{name}_l{l}"])


@pytest.mark.parametrize(
    ("name", "kind", "gaussian"),
    [
        ("mask_hard", ("hard",), False),
        ("mask_learn", ("learn",), False),
        ("mask_hard_learn", ("hard", "learn"), False),
        ("mask_gauss", ("learn",), True),
    ],
)
def test_masks(
    name: str, kind: tuple[str, ...], gaussian: bool, read: Read, close: Close
) -> None:
    case = read("unit_mask")
    radius = float(case["hard_cut_rad"])
    mask = SoftCutoff(4, kind, hard_radius=radius, gaussian=gaussian).double()
    assert (case["soft_cut_rad"] < 0).any()
    assert (np.abs(case["soft_cut_width"]) < 1e-3).any()
    fill(mask.radius, case["soft_cut_rad"])
    fill(mask.width, case["soft_cut_width"])
    there = case["edge_mask"]
    found = mask(torch.tensor(case["r"])[there])
    expected = case[name][there]
    close(found, expected)
    # Far beyond the radius values are tiny; relative to themselves they agree too.
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10)


class Given:
    """Radial values of a fixture in the place of radial functions."""

    out_channels = 16

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __call__(self, length: Tensor) -> Tensor:
        assert len(length) == len(self.rows)
        return self.rows


@pytest.mark.parametrize("path", ["pairs", "edges", "reference"])
@pytest.mark.parametrize("which", ["first", "next"])
def test_edge_level(
    which: str, path: str, read: Read, close: Close, ours: Ours
) -> None:
    case = read("unit_edge_level")
    geometry = graph(case, pairs=path == "pairs")
    assert geometry.shared is (path == "pairs")
    # Our layers keep the number of channels on edges, this one makes 5 of 4: a fifth
    # channel of zeros.
    x = nn.functional.pad(to_complex(ours(case, "atom_in")), (0, 1))
    hard = float(case[f"{which}_hard_cut_rad"])
    kind = ("learn",) if hard == float("inf") else ("hard", "learn")
    rows = torch.view_as_real(torch.tensor(case["rad"])).flatten(1)
    if geometry.plan.pairs is not None:
        rows = rows[geometry.plan.pairs.edge]
    state_channels = 0 if which == "first" else 4
    net = EdgeNetwork(
        5,
        lmax=3,
        dots_lmax=3,
        state_channels=state_channels,
        state_lmax=3,
        radial=Given(rows),
        cutoff=SoftCutoff(5, kind, hard_radius=hard),
    ).double()
    fill(net.cutoff.radius, case[f"{which}_soft_cut_rad"])
    fill(net.cutoff.width, case[f"{which}_soft_cut_width"])
    for l in range(4):
        weight = case[f"{which}_weight_l{l}"]
        parts = np.split(weight, [state_channels, state_channels + 16], axis=1)
        parts[1] = np.pad(parts[1].reshape(5, 4, 4), ((0, 0), (0, 0), (0, 1)))
        weight = np.concatenate([parts[0], parts[1].reshape(5, 20), parts[2]], axis=1)
        fill(net.weights[l], np.stack([weight.real, weight.imag]))
    state = None
    if which == "next":
        rows = [torch.tensor(case[f"edge_in_l{l}"]) for l in range(4)]
        state = torch.stack(rows, dim=1)
    source, target = geometry.edge_index
    dots = reference.edge_dots(x, x, target, source)
    close(dots[..., :4].flatten(1), case[f"{which}_dot"])
    if path == "reference":
        found = net.reference(dots, geometry.edge_length, state, None)
    else:
        found = net(x, x, geometry, state)
        if len(found) != source.numel():
            found = geometry.to_edges(found)
    for l in range(4):
        close(found[:, l], case[f"{which}_edge_out_l{l}"])


@pytest.mark.parametrize("path", ["pairs", "edges", "reference"])
@pytest.mark.parametrize("harmonics", ["solid", "unit"])
def test_atom_level(
    harmonics: str, path: str, read: Read, close: Close, ours: Ours, theirs: Theirs
) -> None:
    case = read("unit_atom_level")
    geometry = graph(case, harmonics=harmonics, pairs=path == "pairs")
    x = to_complex(ours(case, "atom_in"))
    g = torch.stack([torch.tensor(case[f"edge_l{l}"]) for l in range(4)], dim=1)
    mixing = VertexMixing(4, 6, lmax=3, lmax_in=3, lmax_sh=3).double()
    for l in range(4):
        tables = (mixing.sum_paths, mixing.square_paths)
        phases = [
            np.repeat([1j if sum(p) % 2 else 1.0 for p in table.paths if p[2] == l], 4)
            for table in tables
        ]
        phase = np.concatenate([phases[0], np.ones(4), phases[1]])
        weight = case[f"weight_l{l}"] * phase
        fill(mixing.weights[l], np.stack([weight.real, weight.imag]))
    sh = geometry.sh(3)
    for l, part in enumerate(to_complex_basis(sh[:, :, None, None])):
        close(part.squeeze(1), case[f"sph_{harmonics}_l{l}"])
    if path == "reference":
        index = geometry.edge_index
        sums = reference.neighbour_sum(x, g, sh, index, len(x), mixing.sum_paths)
        mixed = mixing.reference(sums, x)
        out = torch.stack([mixed.real, mixed.imag], dim=2)
    else:
        sums = neighbour_sum(x, g, sh, geometry.plan, mixing.sum_paths)
        out = mixing(sums, x)
    for l, part in enumerate(theirs(sums, mixing.sum_paths)):
        close(part, case[f"{harmonics}_ag_l{l}"])
    for l, part in enumerate(to_complex_basis(out)):
        close(part, case[f"{harmonics}_atom_out_l{l}"])


def test_scalars(read: Read, close: Close, ours: Ours) -> None:
    case = read("unit_get_scalars")
    levels = [ours(case, f"level{s}_atom") for s in range(3)]
    assert [level.shape[1:] for level in levels] == [(16, 2, 4), (9, 2, 5), (1, 2, 4)]
    found = torch.view_as_complex(scalars(levels).unflatten(1, (-1, 2)))
    close(found, case["scalars_full"])
    close(found[:, :13], case["scalars_l0"])


def test_readouts(read: Read, close: Close) -> None:
    case = read("unit_outputs")
    values = torch.view_as_real(torch.tensor(case["scalars"])).flatten(1)
    batch = torch.tensor(case["batch"])
    linear = LinearHead(96).double()
    fill(linear.linear.weight, case["linear_weight"])
    fill(linear.linear.bias, case["linear_bias"])
    close(linear(HeadInput(values, (), batch, 3)).squeeze(1), case["linear_out"])
    mlp = PublishedHead(96).double()
    for name in ("mlp1", "mlp2"):
        for place, q in ((0, 0), (2, 1)):
            layer = mlp.get_submodule(f"{name}.{place}")
            fill(layer.weight, case[f"pmlp_{name}_linear{q}_weight"])
            fill(layer.bias, case[f"pmlp_{name}_linear{q}_bias"])
    close(mlp(HeadInput(values, (), batch, 3)).squeeze(1), case["pmlp_out"])


def features_of(case: Arrays, close: Close) -> Tensor:
    features = AtomFeatures(case["species"].tolist(), 2, float(case["charge_scale"]))
    found = features(torch.tensor(case["charges"]), torch.float64)
    close(found, case["atom_scalars"])
    return found


def test_linear_input(read: Read, close: Close) -> None:
    case = read("unit_input_linear")
    layer = LinearInput(15, 8).double()
    fill(layer.linear.weight, case["linear_weight"])
    fill(layer.linear.bias, case["linear_bias"])
    h = layer(features_of(case, close), graph(case))
    found = torch.view_as_complex(h.unflatten(1, (-1, 2)))[..., None]
    close(found, case["out_l0"])


@pytest.mark.parametrize(
    ("name", "layers"),
    [("layers1_cut1.73", 1), ("layers1_cutall", 1), ("layers2_cut2.0", 2)],
)
def test_message_passing_input(
    name: str, layers: int, read: Read, close: Close
) -> None:
    case = read("unit_input_mpnn")
    layer = MPNNInput(
        15, 8, num_layers=layers, hard_radius=float(case[f"{name}_hard_cut_rad"])
    ).double()
    assert layer.soft_radius == case[f"{name}_soft_cut_rad"]
    assert layer.soft_width == case[f"{name}_soft_cut_width"]
    for k in range(layers):
        filters = f"{name}_rad_filts_{k}"
        fill(layer.radials[k].scales, case[f"{filters}_scales"])
        fill(layer.radials[k].phases, case[f"{filters}_phases"])
        fill(layer.filters[k].weight, case[f"{filters}_linear_0_weight"])
        fill(layer.filters[k].bias, case[f"{filters}_linear_0_bias"])
        for place, q in ((0, 0), (2, 1)):
            linear = layer.mlps[k][place]
            fill(linear.weight, case[f"{name}_mlps_{k}_linear_{q}_weight"])
            fill(linear.bias, case[f"{name}_mlps_{k}_linear_{q}_bias"])
    h = layer(features_of(case, close), graph(case))
    found = torch.view_as_complex(h.unflatten(1, (-1, 2)))[..., None]
    close(found, case[f"{name}_out_l0"])
