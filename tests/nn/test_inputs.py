from __future__ import annotations

from typing import Any

import pytest
import torch

from torch_cormorant import EdgeGeometry
from torch_cormorant.errors import SpeciesError
from torch_cormorant.nn import AtomFeatures, LinearInput, MPNNInput, envelope


def geometry() -> EdgeGeometry:
    pos = torch.tensor(
        [[0.0, 0, 0], [1.1, 0, 0], [0, 1.5, 0], [0, 0, 4]], dtype=torch.float64
    )
    index = torch.cartesian_prod(torch.arange(4), torch.arange(4)).t()
    return EdgeGeometry.from_pos(pos, index)


def test_atom_features_are_powers_of_the_charge() -> None:
    features = AtomFeatures([8, 1, 6], charge_power=2)
    found = features(torch.tensor([6, 8, 1]), torch.float64)
    c, h = 6 / 8, 1 / 8
    expected = [
        [0, 0, 0, 1, c, c * c, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1, 1],
        [1, h, h * h, 0, 0, 0, 0, 0, 0],
    ]
    assert found.tolist() == expected
    assert features.out_features == 9
    assert AtomFeatures([1, 8], 0, charge_scale=9.0).charge_scale == 9


def test_unknown_elements_are_named() -> None:
    features = AtomFeatures([1, 6])
    features.check(torch.tensor([1, 6, 6]))
    with pytest.raises(SpeciesError, match=r"92 \(atom 1\)"):
        features.check(torch.tensor([1, 92, 6]))


@pytest.mark.parametrize("species", [[], [1, 1], [0, 1], [-1]])
def test_impossible_species_are_refused(species: list[int]) -> None:
    with pytest.raises(SpeciesError, match="species"):
        AtomFeatures(species)


def test_linear_input_reads_no_geometry() -> None:
    layer = LinearInput(3, 4).double()
    h = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(layer(h, geometry()), layer.linear(h))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hard_radius": 1.3},
        {"num_layers": 2},
        {"num_layers": 3, "inner": 7},
        {"smooth": True, "hard_radius": 3.0},
    ],
    ids=str,
)
def test_message_passing_input_is_its_formula(options: dict[str, Any]) -> None:
    layer, edges = MPNNInput(3, 8, hidden=5, **options).double(), geometry()
    h = torch.randn(4, 3, dtype=torch.float64)
    found = layer(h, edges)
    hard = options.get("hard_radius", 1.73)
    for radial, filters, mlp in zip(
        layer.radials, layer.filters, layer.mlps, strict=True
    ):
        total = torch.zeros_like(h)
        for source, target, r in zip(*edges.edge_index, edges.edge_length, strict=True):
            if r < hard:
                weight = filters(radial(r[None]))[0]
                soft = 1 / (1 + torch.exp((r - 1.73) / 0.2))
                if "smooth" in options:
                    soft = soft * envelope(r, hard)
                total[target] = total[target] + weight * soft * h[source]
        h = mlp(torch.cat([total, h], dim=1))
    torch.testing.assert_close(found, h, rtol=1e-12, atol=1e-12)


def test_the_mask_of_the_supplement_is_learned() -> None:
    edges, h = geometry(), torch.randn(4, 3, dtype=torch.float64)
    fixed = MPNNInput(3, 8, hidden=5, hard_radius=9.0, num_layers=2).double()
    learned = MPNNInput(3, 8, hidden=5, hard_radius=9.0, num_layers=2, learn_mask=True)
    learned = learned.double()
    learned.load_state_dict(fixed.state_dict(), strict=False)
    torch.testing.assert_close(learned(h, edges), fixed(h, edges), rtol=1e-6, atol=1e-7)
    moved = MPNNInput(
        3, 8, hidden=5, hard_radius=9.0, num_layers=2, soft_radius=1.2, soft_width=0.5
    ).double()
    moved.load_state_dict(fixed.state_dict())
    for mask in learned.masks:
        mask.radius.data.fill_(1.2)
        mask.width.data.fill_(-0.5)  # its size counts
    out = learned(h, edges)
    torch.testing.assert_close(out, moved(h, edges), rtol=1e-12, atol=1e-12)
    out.square().sum().backward()
    assert all(float(mask.radius.grad.abs()) > 0 for mask in learned.masks)
    assert all(float(mask.width.grad.abs()) > 0 for mask in learned.masks)


def test_widths_between_the_layers() -> None:
    def widths(**options: Any) -> list[int]:
        layer = MPNNInput(15, 8, num_layers=2, **options)
        return [mlp[2].out_features for mlp in layer.mlps]

    assert widths() == [15, 8]
    assert widths(inner=20) == [20, 8]


def test_an_atom_sends_itself_the_bias() -> None:
    layer = MPNNInput(3, 4).double()
    alone = EdgeGeometry(
        torch.zeros(2, 1, dtype=torch.long), torch.zeros(1, 3).double(), 1
    )
    h = torch.randn(1, 3, dtype=torch.float64)
    weight = layer.filters[0].bias * torch.sigmoid(torch.tensor(1.73 / 0.2).double())
    expected = layer.mlps[0](torch.cat([weight * h, h], dim=1))
    torch.testing.assert_close(layer(h, alone), expected, rtol=1e-6, atol=1e-7)
