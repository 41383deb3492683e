"""Normalisation of vectors, tensors and rows that are atoms."""

from __future__ import annotations

import pytest
import torch

from torch_cormorant import Cormorant
from torch_cormorant.errors import ShapeError
from torch_cormorant.models import ModelInfo, Normalisation
from torch_cormorant.testing import random_molecule

Z = torch.tensor([6, 1, 1, 9])
BATCH = torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize("molecules", [0, 1, 2, 3])
@pytest.mark.parametrize("components", [(3,), (3, 3)])
def test_components_of_one_tensor_share_their_scale(
    components: tuple[int, ...], molecules: int
) -> None:
    units = Normalisation((0.0,), (2.5,))
    output = torch.randn(molecules, *components)
    restored = units.restore(output, Z[:0])
    torch.testing.assert_close(restored, 2.5 * output.double())
    back = units.normalise(restored, Z[:0])
    torch.testing.assert_close(back, output.double())


@pytest.mark.parametrize("targets", [2, 3])
def test_every_vector_of_several_has_its_own_scale(targets: int) -> None:
    scales = [1.0, 10.0, 100.0][:targets]
    units = Normalisation((0.0,) * targets, tuple(scales))
    output = torch.randn(3, targets, 3)
    expected = output.double() * torch.tensor(scales).double()[:, None]
    restored = units.restore(output, Z, torch.tensor([0, 0, 1, 2]))
    torch.testing.assert_close(restored, expected)


def test_references_of_atoms_belong_to_rows_of_atoms() -> None:
    units = Normalisation((1.0,), (2.0,), {6: (10.0,), 1: (-1.0,)})
    output = torch.randn(4, 1)
    restored = units.restore(output, Z, BATCH, per_atom=True)
    expected = torch.tensor([[11.0], [0.0], [0.0], [1.0]]).double()
    torch.testing.assert_close(restored, 2 * output.double() + expected)
    back = units.normalise(restored, Z, BATCH, per_atom=True)
    torch.testing.assert_close(back, output.double())


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2)])
def test_rows_without_the_axis_of_the_targets_are_refused(
    shape: tuple[int, ...],
) -> None:
    units = Normalisation((0.0, 0.0), (1.0, 2.0))
    with pytest.raises(ShapeError, match=r"expected \[rows, 2\]"):
        units.restore(torch.zeros(shape), Z)


@pytest.mark.parametrize(
    ("head", "targets"),
    [("dipole", 1), ("dipole", 2), ("polarizability", 1), ("atom_vector", 1)],
)
def test_predictions_of_tensor_heads_are_scaled_outputs(
    head: str, targets: int
) -> None:
    torch.manual_seed(0)
    model = Cormorant(
        head=head, num_targets=targets, channels=4, num_levels=2, lmax=2
    ).double()
    scales = (3.0, 7.0)[:targets]
    model.info = ModelInfo(
        ("one", "other")[:targets],
        ("Debye",) * targets,
        Normalisation((0.0,) * targets, scales),
    )
    z, pos = random_molecule(6)
    batch = torch.tensor([0, 0, 0, 0, 1, 1])
    output = model(z, pos.double(), batch)
    factors = torch.tensor(scales).double().view(-1, *[1] * (output.ndim - 2))
    torch.testing.assert_close(
        model.predict(z, pos.double(), batch), output.detach() * factors
    )
