"""Some of the properties of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from torch_cormorant import Cormorant, load_model, save_model
from torch_cormorant.data import MiniQM9
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import ModelInfo, Normalisation, Predictor, with_targets
from torch_cormorant.networks import CormorantNetwork

SIZES: dict[str, Any] = {"channels": 4, "num_levels": 2, "lmax": 1}
SPECIES = [1, 6, 7, 8, 9]
HEADS: list[Any] = [
    "dipole_norm",
    "spatial_extent",
    {"kind": "published", "num_targets": 3},
    {"kind": "extensive", "num_targets": 2},
]
NAMES = ("mu", "r2", "homo", "lumo", "gap", "zpve", "U0")


def info(count: int) -> ModelInfo:
    means = tuple(float(k) for k in range(count))
    atoms = {z: tuple(0.1 * k * z for k in range(count)) for z in SPECIES}
    scale = tuple(1.0 + k for k in range(count))
    return ModelInfo(NAMES[:count], ("eV",) * count, Normalisation(means, scale, atoms))


def drawn(network: Any) -> Any:
    """Weights of the heads that no zero hides."""
    torch.manual_seed(1)
    for weight in network.head.parameters():
        weight.data = 0.3 * torch.randn_like(weight)
    return network.double()


def network(head: Any, **options: Any) -> Any:
    return drawn(CormorantNetwork(SPECIES, head=head, **SIZES, **options))


def check(model: Any, names: Sequence[str]) -> Any:
    """The numbers are those of the whole model."""
    molecules = MiniQM9("gap")[:5]
    columns = [model.info.targets.index(name) for name in names]
    part = with_targets(model, names)
    expected = model.predict(molecules)[:, columns]
    torch.testing.assert_close(part.predict(molecules), expected, rtol=1e-12, atol=0)
    assert part.info.targets == tuple(names)
    assert model.info.targets == NAMES[: len(model.info.targets)]
    return part


@pytest.mark.parametrize(
    "names",
    [*([name] for name in NAMES), ["gap", "homo"], ["U0", "mu", "homo", "gap"], NAMES],
)
def test_a_list_of_heads(names: Sequence[str], tmp_path: Path) -> None:
    model = Predictor(network(HEADS), info(7))
    part = check(model, names)
    assert len(list(part.parameters())) <= len(list(model.parameters()))
    save_model(tmp_path / "a", part)
    again = load_model(tmp_path / "a").predict(MiniQM9("gap")[:2])
    assert torch.equal(again, part.predict(MiniQM9("gap")[:2]))


@pytest.mark.parametrize(
    "kind",
    ["published", "linear", "extensive", "atomwise", "mean", "attention", "pooled"],
)
def test_every_head_of_several_numbers(kind: str) -> None:
    model = Predictor(network(kind, num_targets=3), info(3))
    for names in (["homo", "mu"], ["r2"]):
        check(model, names)


def test_a_network_that_predicts_itself() -> None:
    model = drawn(Cormorant(SPECIES, head="extensive", num_targets=3, **SIZES))
    model.info = info(3)
    assert isinstance(check(model, ["r2"]), Cormorant)


def test_what_cannot_be_chosen() -> None:
    model = Predictor(network(HEADS), info(7))
    for names, match in (
        (["gab"], "'gab'; did you mean 'gap'"),
        ([], "expected different names"),
        (["mu", "mu"], "expected different names"),
    ):
        with pytest.raises(ConfigError, match=match):
            with_targets(model, names)
    vectors = Predictor(network("vector", num_targets=2), info(2))
    with pytest.raises(ConfigError, match="only single numbers are told apart"):
        with_targets(vectors, ["mu"])
    lengths = Predictor(network("dipole_norm", num_targets=2), info(2))
    with pytest.raises(ConfigError, match="are not told apart"):
        with_targets(lengths, ["mu"])
