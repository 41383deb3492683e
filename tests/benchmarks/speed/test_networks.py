"""Networks of other packages behind our signature, on our edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.speed import network
from benchmarks.speed.settings import Settings
from torch_cormorant.errors import DataError
from torch_cormorant.graph import neighbour_list
from torch_cormorant.models import Cormorant
from torch_cormorant.so3 import random_rotation

QUICK = Settings(quick=True)
Make = Callable[..., nn.Module]
SMALL: dict[str, tuple[str, Make]] = {
    "SchNet": (
        "torch_geometric",
        lambda **kw: peers.SchNetPeer(
            5.0, hidden_channels=16, num_filters=16, num_interactions=2, **kw
        ),
    ),
    "ViSNet": (
        "torch_geometric",
        lambda **kw: peers.ViSNetPeer(hidden_channels=16, num_layers=2, **kw),
    ),
    "NequIP": (
        "nequip",
        lambda **kw: peers.NequIPPeer(num_layers=2, l_max=1, num_features=8, **kw),
    ),
    "MACE": ("mace", lambda **kw: peers.MACEPeer(channels=8, **kw)),
}


@pytest.fixture(params=sorted(SMALL))
def make(request: pytest.FixtureRequest) -> Make:
    module, constructor = SMALL[request.param]
    pytest.importorskip(module, reason=f"{request.param} is not installed")
    return constructor


@pytest.fixture
def molecules() -> tuple[Tensor, Tensor, Tensor]:
    """A molecule of five atoms and one of three."""
    generator = torch.Generator().manual_seed(3)
    pos = 2 * torch.randn(8, 3, generator=generator)
    return (
        torch.tensor([6, 1, 8, 7, 1, 8, 1, 1]),
        pos,
        torch.tensor([0, 0, 0, 0, 0, 1, 1, 1]),
    )


@pytest.mark.filterwarnings("ignore")
def test_a_peer_predicts_invariants_of_every_molecule(
    make: Make, molecules: tuple[Tensor, Tensor, Tensor]
) -> None:
    dtype = torch.get_default_dtype()
    before = torch.random.get_rng_state()
    peer = make().eval()
    assert torch.get_default_dtype() == dtype
    z, pos, batch = molecules
    R = random_rotation(1, generator=torch.Generator().manual_seed(1))[0].float()
    with torch.no_grad():
        out = peer(z, pos, batch, 2)
        turned = peer(z, pos @ R.t() + 1.0, batch, 2)
        alone = peer(z[5:], pos[5:], batch[5:] - 1, 1)
    assert out.shape == (2, 1)
    assert out.dtype == torch.float32
    assert not torch.equal(out[0], out[1])
    scale = float(out.abs().max())
    torch.testing.assert_close(turned, out, atol=1e-4 * scale, rtol=0)
    torch.testing.assert_close(alone, out[1:], atol=1e-5 * scale, rtol=0)
    assert len(before) == len(torch.random.get_rng_state())


@pytest.mark.filterwarnings("ignore")
def test_a_mean_is_the_sum_over_the_number_of_atoms(
    make: Make, molecules: tuple[Tensor, Tensor, Tensor]
) -> None:
    z, pos, batch = molecules
    total, mean = make(), make(mean=True)
    mean.load_state_dict(total.state_dict())
    total.eval()
    mean.eval()
    with torch.no_grad():
        expected = total(z, pos, batch, 2) / torch.tensor([[5.0], [3.0]])
        found = mean(z, pos, batch, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_cell_repeats_what_is_in_it(
    make: Make, molecules: tuple[Tensor, Tensor, Tensor]
) -> None:
    peer = make().eval()
    if not isinstance(peer, peers.InCell):
        pytest.skip("takes no periodic cells")
    z, pos, _ = molecules
    z, pos, batch = z[:5], pos[:5], torch.zeros(5, dtype=torch.long)
    cell = torch.tensor([[6.0, 0, 0], [1, 7, 0], [0, -1, 6.5]])
    moved = pos.clone()
    moved[2] += cell[0] - 2 * cell[1]
    with torch.no_grad():
        alone = peer(z, pos, batch, 1)
        repeated, again = (peer(z, p, batch, 1, cell) for p in (pos, moved))
    scale = float(repeated.abs().max())
    torch.testing.assert_close(again, repeated, atol=1e-4 * scale, rtol=0)
    assert float((repeated - alone).abs()) > 1e-3 * scale


def test_a_periodic_structure_is_measured_with_its_cell(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    pos = 5 * torch.rand(2, 6, 3, generator=generator)
    np.savez(
        tmp_path / "salt.npz",
        z=np.array([1, 8, 1, 6, 7, 1, 8, 8]),
        pos=torch.cat([pos, pos[:, :2] + 9], dim=1)[0].numpy(),
        offset=np.array([0, 6, 8]),
        cell=np.stack([6 * np.eye(3), 9 * np.eye(3)]),
    )
    settings = Settings(
        quick=True,
        structures=tmp_path,
        systems=("salt",),
        peers=("SchNet", "ViSNet"),
        memory=False,
    )
    given = network.structure("salt", settings)
    assert len(given.z) == 6
    assert given.cell is not None
    made = network.potential("portable", given, settings)
    assert isinstance(made, network.Potential)
    assert isinstance(made.net, Cormorant)
    expected = made.net.energy_and_forces(given.z, given.pos, cell=given.cell)[1]
    torch.testing.assert_close(made(), expected, rtol=1e-5, atol=1e-6)
    rows = {row.formulation: row for row in network.run(settings)}
    assert "no periodic cells" in rows["ViSNet"].note
    assert rows["SchNet"].cpu_ms is not None
    edges = neighbour_list(given.pos, 5.0, None, given.cell)[0]
    assert rows["SchNet"].edges == edges.shape[1]


def test_visnet_gets_its_own_graph_back() -> None:
    from torch_geometric.nn.models import visnet

    theirs = visnet.radius_graph
    peer = peers.ViSNetPeer(hidden_channels=16, num_layers=1)
    peer(torch.tensor([1, 1]), torch.eye(3)[:2], torch.zeros(2, dtype=torch.long), 1)
    assert visnet.radius_graph is theirs


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.util, "find_spec", lambda _: None)
    with pytest.raises(peers.PeerMissingError, match="pip install mace-torch"):
        peers.MACEPeer()
    given = network.structure("12 atoms", QUICK)
    assert network.potential("MACE", given, QUICK) == (
        "not run: mace-torch is not installed: pip install mace-torch"
    )


def test_whole_networks_are_of_equal_size() -> None:
    given = network.structure("12 atoms", QUICK)
    for kind in ("portable", "SchNet", "ViSNet"):
        made = network.potential(kind, given, Settings())
        assert isinstance(made, network.Potential)
        count = sum(weight.numel() for weight in made.net.parameters())
        assert 0.9 * 300_000 < count < 1.1 * 300_000, kind


def test_forces_are_those_of_the_model() -> None:
    given = network.structure("12 atoms", QUICK)
    made = network.potential("portable", given, QUICK)
    assert isinstance(made, network.Potential)
    _, forces = made.net.energy_and_forces(given.z, given.pos)
    torch.testing.assert_close(made(), forces.float(), rtol=1e-4, atol=1e-5)
    assert not made.problem()


@pytest.mark.parametrize("periodic", [False, True])
def test_the_compiled_network_gives_the_same_forces(
    periodic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That the network is one graph is tested with the operators.
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    given = network.structure("12 atoms", QUICK)
    if periodic:
        given = replace(given, cell=7 * torch.eye(3))
    settings = Settings(quick=True, compiled=True)
    made = network.potential("compiled", given, settings)
    assert isinstance(made, network.Potential)
    assert made.core is not None
    eager = network.Potential(made.net, given)
    torch.testing.assert_close(made(), eager(), rtol=1e-4, atol=1e-5)


def test_forces_that_do_not_cancel_are_noticed() -> None:
    class Pull(nn.Module):
        def forward(self, z: Tensor, pos: Tensor, batch: Tensor, _: int) -> Tensor:
            del z, batch
            return pos.sum()

    given = network.structure("12 atoms", QUICK)
    assert network.Potential(Pull(), given).problem() == "net force"


def test_a_missing_structure_is_named() -> None:
    with pytest.raises(DataError, match=r"dhfr\.npz does not hold z and pos"):
        network.structure("dhfr", QUICK)
