from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from torch_cormorant import Cormorant, CormorantQM9
from torch_cormorant.errors import ConfigError, NonFiniteError

Molecules = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.fixture
def loader(molecules: Molecules) -> list[Any]:
    batches = []
    for sizes in ((5, 8), (9, 7)):
        z, pos, batch = molecules(*sizes)
        graphs = [Data(z=z[batch == k], pos=pos[batch == k]) for k in range(len(sizes))]
        batches.append(Batch.from_data_list(graphs))
    return batches


def sizes_of(model: Cormorant, loader: list[Any]) -> list[list[float]]:
    """RMS of every level and degree over all batches."""
    powers = []
    for batch in loader:
        _, levels = model(batch.z, batch.pos, batch.batch, return_levels=True)
        powers.append(
            [
                [
                    level[:, l * l : (l + 1) ** 2].square().sum(2).mean()
                    for l in range(lmax + 1)
                ]
                for level, lmax in zip(levels, model.lmax, strict=True)
            ]
        )
    mean = [
        [torch.stack(values).mean().sqrt() for values in zip(*level, strict=True)]
        for level in zip(*powers, strict=True)
    ]
    return [[float(value.detach()) for value in level] for level in mean]


def published() -> CormorantQM9:
    torch.manual_seed(0)
    return CormorantQM9(channels=6, hidden=16).double()


def test_every_level_and_degree_gets_the_target(loader: list[Any]) -> None:
    model = published()
    before = sizes_of(model, loader)
    assert before[-1][0] < 1e-2  # nearly dead, as published
    result = model.calibrate(loader, target=0.1)
    assert result.target == 0.1
    for level in sizes_of(model, loader):
        assert level == pytest.approx([0.1] * len(level), rel=1e-6)


def test_only_vertex_weights_and_the_head_change_and_only_by_a_factor(
    loader: list[Any],
) -> None:
    model, other = published(), published()
    model.calibrate(loader)
    last = {id(layer.weight) for layer in model.head.last_layers()}
    last |= {id(layer.bias) for layer in model.head.last_layers()}
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        if "vertex" in name or id(a) in last:
            ratio = a.detach() / b.detach()
            assert float((ratio - ratio.mean()).abs().max()) < 1e-9 * ratio.mean()
            assert float(ratio.min()) > 0
        else:
            assert torch.equal(a, b), name


@pytest.mark.parametrize("head", ["published", "extensive", "dipole_norm", "attention"])
def test_predictions_start_at_a_tenth(head: str, loader: list[Any]) -> None:
    torch.manual_seed(0)
    model = Cormorant(channels=4, num_levels=2, lmax=2, hidden=16, head=head).double()

    def size() -> float:
        outputs = [model(batch.z, batch.pos, batch.batch) for batch in loader]
        return float(torch.cat(outputs).detach().square().mean().sqrt())

    result = model.calibrate(loader, target=0.3)
    assert size() == pytest.approx(0.1, rel=1e-9)
    assert result.output > 0
    assert model.calibrate(loader, target=0.3).output == pytest.approx(0.1, rel=1e-6)


def test_default_target_survives_rattle_and_compression(loader: list[Any]) -> None:
    model = published()
    result = model.calibrate(loader)
    assert result.passed
    assert result.growth < 5
    larger = [t for t in (1.0, 0.3, 0.1, 0.03, 0.01) if t > result.target]
    for target in larger:
        # every larger target was tried and failed
        again = published().calibrate(loader, target=target)
        assert not again.passed
        assert again.growth >= 5


def test_calibration_is_deterministic_and_leaves_the_global_state(
    loader: list[Any],
) -> None:
    first, second = published(), published()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert first.calibrate(loader) == second.calibrate(loader)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_norms_and_gates_are_left_in_place(loader: list[Any]) -> None:
    torch.manual_seed(0)
    model = Cormorant(channels=4, num_levels=2, lmax=2, norm="norm", gate=True)
    model = model.double()
    kept = [*model.norms, *model.gates]
    model.calibrate(loader, target=0.5)
    assert all(a is b for a, b in zip([*model.norms, *model.gates], kept, strict=True))


def test_forward_never_rescales(loader: list[Any]) -> None:
    model = published()
    before = [p.detach().clone() for p in model.parameters()]
    model(loader[0].z, loader[0].pos, loader[0].batch)
    assert all(map(torch.equal, model.parameters(), before))


def test_only_some_batches_are_read(loader: list[Any]) -> None:
    read = []

    def endless() -> Any:
        while True:
            read.append(1)
            yield loader[0]

    published().calibrate(endless(), target=0.1, max_batches=2)
    assert len(read) == 2


def test_faults(loader: list[Any]) -> None:
    with pytest.raises(ConfigError, match="empty"):
        published().calibrate([])
    for target in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="target"):
            published().calibrate(loader, target=target)
    model = published()
    with torch.no_grad():
        model.convs[0].vertex.weights[0].fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="not finite"):
        model.calibrate(loader)
