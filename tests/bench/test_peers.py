"""Networks of other packages behind our signature, on our edges."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant.bench import network, peers
from torch_cormorant.bench.settings import Settings
from torch_cormorant.errors import DataError
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
