"""Training on vectors and tensors, per molecule and per atom."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from torch_cormorant import Cormorant
from torch_cormorant.data import MiniQM9
from torch_cormorant.errors import ConfigError
from torch_cormorant.train import PropertyRegression, quiet_lightning

SMALL = {"channels": 4, "num_levels": 2, "lmax": 2, "norm": "norm"}


def labelled(count: int, *shape: int, per_atom: bool = False) -> list[Data]:
    """Molecules with random labels of a shape."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for data in MiniQM9("mu")[10 : 10 + count]:
        rows = len(data.z) if per_atom else 1
        y = torch.randn(rows, *shape, generator=generator, dtype=torch.float64)
        found.append(Data(z=data.z, pos=data.pos, y=y))
    return found


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize(
    ("head", "targets", "shape"),
    [
        ("dipole", 1, (3,)),
        ("dipole", 2, (2, 3)),
        ("dipole", 3, (3, 3)),
        ("polarizability", 1, (3, 3)),
        ("atom_vector", 1, (3,)),
        ({"kind": "so3", "degree": 2, "per_atom": True}, 2, (2, 5)),
    ],
)
def test_loss_and_error_are_means_over_all_components(
    head: Any, targets: int, shape: tuple[int, ...], count: int
) -> None:
    torch.manual_seed(0)
    model = Cormorant(head=head, num_targets=targets, **SMALL).double()
    scales = [2.0, 5.0, 11.0][:targets]
    module = PropertyRegression(model, [0.0] * targets, scales)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    molecules = labelled(count, *shape, per_atom=model.head.per_atom)
    batch = Batch.from_data_list(molecules)
    output = model(batch.z, batch.pos, batch.batch)
    own = [1] * (output.ndim - 2)
    scale = torch.tensor(scales, dtype=torch.float64).view(-1, *own)
    loss = module.training_step(batch, 0)
    expected = (output - batch.y / scale).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    module.eval()
    module.validation_step(batch)
    wrong = (output * scale - batch.y).abs()
    # Several properties are counted in deviations, one in the unit of the data.
    shown = (wrong / scale if targets > 1 else wrong).mean()
    torch.testing.assert_close(module.valid_mae.compute(), shown.detach())
    for k in range(len(module.target_maes)):
        metric: Any = module.target_maes[k]
        torch.testing.assert_close(metric.compute(), wrong[:, k].mean().detach())


@pytest.mark.parametrize("field", ["cell", "pbc"])
def test_periodic_structures_are_refused(field: str) -> None:
    torch.manual_seed(0)
    module = PropertyRegression(Cormorant(head="dipole", **SMALL), 0.0, 1.0)
    molecules = labelled(2, 3)
    empty = torch.zeros(1, 3, 3) if field == "cell" else torch.zeros(1, 3).bool()
    for data in molecules:
        data[field] = empty.clone()
    module(Batch.from_data_list(molecules))
    if field == "pbc":  # lists are batched as lists
        listed = [Data(z=d.z, pos=d.pos, y=d.y, pbc=[False] * 3) for d in molecules]
        module(Batch.from_data_list(listed))
    molecules[1][field] = empty + 1 if field == "cell" else ~empty
    with pytest.raises(ConfigError, match="pbc: properties are of molecules"):
        module(Batch.from_data_list(molecules))


def test_a_head_per_atom_is_trained_and_predicts_rows_of_atoms() -> None:
    molecules = labelled(6, 3, per_atom=True)
    torch.manual_seed(0)
    model = Cormorant(head="atom_vector", **SMALL)
    module = PropertyRegression(model, 0.0, 1.0, lr=1e-2)
    with quiet_lightning():
        trainer = Trainer(
            max_epochs=6,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            log_every_n_steps=1,
        )
        loader = DataLoader(molecules, batch_size=3)
        trainer.fit(module, loader, loader)
        rows = torch.cat(trainer.predict(module, loader))  # type: ignore[arg-type]
    wanted = torch.cat([data.y for data in molecules])
    assert rows.shape == wanted.shape
    assert (rows - wanted).square().mean() < wanted.square().mean()
