"""What a training does with modes, frozen weights and precision."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch_geometric.loader import DataLoader

from torch_cormorant import Cormorant, load_model, save_model
from torch_cormorant.data import MiniEthanol, MiniQM9
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.train import (
    PotentialRegression,
    PropertyRegression,
    potential_normalisation,
)

SMALL: dict[str, Any] = {"channels": 4, "num_levels": 1, "lmax": 1, "hidden": 8}


def potential(**options: Any) -> Cormorant:
    torch.manual_seed(0)
    return Cormorant.potential([1, 6, 8], **{**SMALL, **options})


def forces_module(model: Cormorant) -> PotentialRegression:
    data = MiniEthanol()[:8]
    return PotentialRegression(model, potential_normalisation(data), lr=1e-2)


def fit(module: LightningModule, data: Any, **options: Any) -> dict[str, Tensor]:
    """Two steps of training and a validation; the weights before and after."""
    before = copy.deepcopy(dict(module.named_parameters()))
    loader = DataLoader(data, batch_size=4)
    with warnings.catch_warnings():
        # what Lightning says about workers, and about float16 on a CPU
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", ".*16-mixed.*")
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )
        trainer.fit(module, loader, loader)
    after = dict(module.named_parameters())
    return {name: after[name] for name in before if not after[name].equal(before[name])}


def test_a_potential_from_a_file_can_be_trained_on_forces(tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", potential())
    model = load_model(tmp_path / "model.safetensors")
    assert not model.training
    module = forces_module(model)
    assert fit(module, MiniEthanol()[:8])
    module.eval()
    assert fit(module, MiniEthanol()[:8]), "and once more, from evaluation mode"


def test_weights_that_are_frozen_on_purpose_stay_frozen() -> None:
    model = potential()
    model.convs.requires_grad_(requires_grad=False)
    changed = fit(forces_module(model), MiniEthanol()[:8])
    assert changed
    assert not any("convs" in name for name in changed)


def test_the_frozen_copy_of_a_calculator_can_be_trained() -> None:
    model = Engine(potential(cutoff_type=("soft",))).model
    assert not any(p.requires_grad for p in model.parameters())
    changed = fit(forces_module(model), MiniEthanol()[:8])
    assert any("convs" in name for name in changed)
    assert not any("cutoff" in name for name in changed), (
        "masks are fixed by cutoff_type"
    )


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains_forces_as_full_precision_does(precision: Any) -> None:
    plain, mixed = forces_module(potential()), forces_module(potential())
    fit(plain, MiniEthanol()[:8])
    assert fit(mixed, MiniEthanol()[:8], precision=precision)
    for name, weight in plain.state_dict().items():
        assert torch.equal(mixed.state_dict()[name], weight), name


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains_properties_as_full_precision_does(
    precision: Any,
) -> None:
    data = MiniQM9()[:8]

    def module() -> PropertyRegression:
        torch.manual_seed(0)
        return PropertyRegression(
            Cormorant(**SMALL, num_targets=7), [0.0] * 7, [1.0] * 7
        )

    plain, mixed = module(), module()
    fit(plain, data)
    assert fit(mixed, data, precision=precision)
    for name, weight in plain.state_dict().items():
        assert torch.equal(mixed.state_dict()[name], weight), name
