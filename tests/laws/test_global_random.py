"""What only looks at something leaves the global random numbers as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from torch_cormorant import CormorantQM9, load_model, save_model
from torch_cormorant.data import MiniQM9, split_indices
from torch_cormorant.models import ModelInfo
from torch_cormorant.models.files import model_from_bytes, model_to_bytes
from torch_cormorant.train import MoleculeDataModule, PaddedSizes, edge_counts

DATA = MiniQM9("gap")[:20]


def parts() -> MoleculeDataModule:
    return MoleculeDataModule(DATA, split_indices(20, 12, 4, 4), batch_size=4)


def bytes_of(model: Any) -> bytes:
    return model_to_bytes(model, ModelInfo(("gap",), ("eV",), model.info.normalisation))


LOOKS: dict[str, Callable[[Any, Path], object]] = {
    "a file is written": lambda model, path: save_model(path / "other", model),
    "a file is read": lambda _, path: load_model(path / "file"),
    "bytes are read": lambda model, _: model_from_bytes(bytes_of(model)),
    "weights of the original": lambda model, _: CormorantQM9.from_original(
        model.to_original()
    ),
    "sizes": lambda model, _: PaddedSizes.of(model, DATA, batch_size=4),
    "edges": lambda *_: edge_counts(DATA, cutoff=3.0),
    "training batches": lambda *_: list(parts().train_dataloader()),
    "validation batches": lambda *_: list(parts().val_dataloader()),
    "test batches": lambda *_: list(parts().predict_dataloader()),
}


@pytest.mark.parametrize("name", LOOKS)
def test_looking_draws_no_random_numbers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = CormorantQM9()
    save_model(tmp_path / "file", model, targets=["gap"], units=["eV"])
    before = torch.get_rng_state()
    LOOKS[name](model, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
