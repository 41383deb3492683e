"""N-body networks of whole molecules: parts, their positions, laws and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import load_model, save_model
from torch_cormorant.errors import ConfigError, EdgeIndexError
from torch_cormorant.irreps import Irreps
from torch_cormorant.models import Potential, Predictor
from torch_cormorant.networks import NBodyNetwork
from torch_cormorant.networks.parts import molecules_of, with_hydrogens
from torch_cormorant.so3 import as_irreps, random_rotation
from torch_cormorant.testing import random_molecule

PARTS = [[0, 1, 2, 3], [3, 4, 5], [6]]
SCHEMES: dict[str, dict[str, Any]] = {
    "hydrogens": {"scheme": "hydrogens"},
    "fragments": {"scheme": {"fragments": PARTS}, "gates": ["relative", "pairs"]},
    "root": {"scheme": "root", "lmax": 2, "complex": True},
    "printed": {"scheme": "hydrogens", "radial": "powers", "norm": None},
    "so3": {"scheme": "hydrogens", "parity": False, "gate": True},
}


def network(name: str, **options: Any) -> NBodyNetwork:
    torch.manual_seed(3)
    given = {"channels": 4, "hidden": 8, **SCHEMES[name], **options}
    return NBodyNetwork([1, 6, 7, 8, 9], **given).double()


def molecule() -> tuple[Tensor, Tensor]:
    _, pos = random_molecule(7, torch.Generator().manual_seed(1))
    return torch.tensor([6, 1, 1, 8, 1, 7, 1]), pos


@pytest.fixture(params=list(SCHEMES))
def net(request: pytest.FixtureRequest) -> NBodyNetwork:
    return network(request.param)


def test_every_level_turns_with_the_molecule(
    net: NBodyNetwork, turned: Callable[..., Tensor]
) -> None:
    """Proposition 1 of the paper."""
    z, pos = molecule()
    out, levels = net(z, pos, return_levels=True)
    R, mirror = random_rotation(), net.config["parity"]
    for turn in [R, -R] if mirror else [R]:
        again, moved = net(z, pos @ turn.T + 1, return_levels=True)
        assert torch.allclose(again, out, rtol=1e-10)
        for a, b, conv in zip(levels, moved, net.convs, strict=True):
            rows, _ = as_irreps(a)
            own = turned(rows, conv.rows_out, turn)
            assert torch.allclose(as_irreps(b)[0], own, atol=1e-11)
            assert float(a.detach().abs().max()) > 1e-6


def test_without_parity_mirror_images_differ() -> None:
    z, pos = molecule()
    left, right = (network("so3", lmax=1)(z, sign * pos) for sign in (1, -1))
    assert abs(float((left - right).detach())) > 1e-9


def test_order_of_atoms_and_batches(net: NBodyNetwork) -> None:
    z, pos = molecule()
    out = net(z, pos)
    if net.scheme != "fragments":
        order = torch.randperm(7)
        assert torch.allclose(net(z[order], pos[order]), out, rtol=1e-10)
    other = pos + 0.1 * torch.randn_like(pos)
    batch = torch.tensor([0, 1]).repeat_interleave(7)
    both = net(z.repeat(2), torch.cat([pos, other]), batch)
    assert torch.allclose(both, torch.cat([out, net(z, other)]), rtol=1e-10)
    mixed = torch.stack([pos, other], dim=1).flatten(0, 1)
    again = net(z.repeat_interleave(2), mixed, torch.tensor([0, 1]).repeat(7))
    assert torch.allclose(again, both, rtol=1e-10)


def test_forces_are_the_slope(net: NBodyNetwork) -> None:
    z, pos = molecule()

    def energy(pos: Tensor) -> Tensor:
        out: Tensor = net(z, pos).sum()
        return out

    given = pos.requires_grad_()
    assert torch.autograd.gradcheck(energy, given, atol=1e-6)
    (slope,) = torch.autograd.grad(energy(given), given)
    potential = Potential(net).eval()
    result = potential.evaluate(z, pos.detach())
    assert torch.allclose(result.forces, -slope, atol=1e-12)
    assert torch.allclose(result.energies.sum(), result.energy)


def test_files_keep_the_scheme(net: NBodyNetwork, tmp_path: Path) -> None:
    z, pos = molecule()
    save_model(tmp_path / "model.safetensors", Predictor(net))
    again = load_model(tmp_path / "model.safetensors").network
    assert torch.equal(again(z, pos), net(z, pos))
    assert again.config == net.config


def test_hydrogens_belong_to_the_nearest_heavy_atom() -> None:
    z = torch.tensor([8, 1, 1, 6, 1, 1, 1])
    pos = torch.zeros(7, 3)
    pos[:, 0] = torch.tensor([0.0, 0.9, -0.9, 3.0, 2.2, 9.0, 9.7])
    batch = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    part = with_hydrogens(z, pos, batch)
    assert part[0] == part[1] == part[2] != part[3] == part[4]
    assert len(part.unique()) == 4  # molecular hydrogen: two parts


def test_positions_come_from_the_edges_of_all_pairs() -> None:
    net, (z, pos) = network("hydrogens"), molecule()
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    index = net.make_edges(pos, batch)
    place, found = molecules_of(net.geometry(index, pos[index[1]] - pos[index[0]], 7))
    assert torch.equal(found, batch)
    for k in (0, 1):
        mean = pos[batch == k].mean(0)
        assert torch.allclose(place[batch == k], pos[batch == k] - mean)
    vec = pos[index[1]] - pos[index[0]]
    kept = index[0] != index[1]
    index, vec = index[:, kept][:, 1:], vec[kept][1:]
    with pytest.raises(EdgeIndexError, match="need every pair of a molecule"):
        net.forward_edges(z, index, vec, batch=batch)


def test_it_learns() -> None:
    z, pos = molecule()
    net = network("hydrogens")
    batch = torch.arange(3).repeat_interleave(7)
    places = torch.cat([pos, pos + 0.2 * torch.randn_like(pos), 1.1 * pos])
    target = torch.tensor([[1.0], [-1.0], [0.3]], dtype=torch.float64)
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = (net(z.repeat(3), places, batch) - target).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_vectors_of_an_n_body_network_make_dipoles() -> None:
    z, pos = molecule()
    net = network("hydrogens", head="dipole")
    R = random_rotation()
    out = net(z, pos)
    assert torch.allclose(net(z, pos @ R.T), out @ R.T, atol=1e-11)
    assert float(out.detach().abs().max()) > 1e-6


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"scheme": "trees"}, "scheme must be one of"),
        ({"scheme": "root", "cutoff": 3.0}, "leave out cutoff"),
        ({"scheme": "root", "num_levels": 2}, "leave out num_levels"),
        ({"gates": ["single"]}, "gates must be one or 3"),
        ({"channels": 0}, "channels must be"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        NBodyNetwork([1, 8], **options)


def test_fragments_must_name_every_atom() -> None:
    z, pos = molecule()
    with pytest.raises(ConfigError, match="every atom needs a part"):
        network("fragments")(z[:6], pos[:6])
    with pytest.raises(ConfigError, match="every atom needs a part"):
        NBodyNetwork(scheme={"fragments": [[0, 1], [6]]}).double()(z, pos)


def test_irreps_of_the_levels() -> None:
    net = network("so3", lmax=[2, 0])
    assert net.convs[0].irreps_out == Irreps("4x0 + 4x1 + 4x2")
    assert net.convs[1].irreps_in == net.convs[0].irreps_out
    assert net.convs[1].irreps_out == Irreps("4x0")
