from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch

from torch_cormorant.data import MiniQM9
from torch_cormorant.errors import ConfigError, NonFiniteError, ShapeError
from torch_cormorant.train import PropertyRegression
from torch_cormorant.train.schedule import learning_rate_factor

Tiny = Callable[[], nn.Module]


@pytest.fixture
def batch() -> Batch:
    data = MiniQM9("energy")
    return Batch.from_data_list([data[k] for k in (3, 40, 90)])


def test_predictions_are_in_the_unit_of_the_data(tiny: Tiny, batch: Batch) -> None:
    module = PropertyRegression(tiny(), mean=-5000.0, std=2.0)
    output = module.normalised(batch)
    assert output.dtype == torch.float32
    predicted = module(batch)
    assert predicted.dtype == torch.float64
    assert torch.equal(predicted, output.double() * 2.0 - 5000.0)


def test_loss_is_that_of_the_normalised_value(tiny: Tiny, batch: Batch) -> None:
    module = PropertyRegression(tiny().double(), mean=-5000.0, std=700.0)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    loss = module.training_step(batch, 0)
    expected = ((module(batch) - batch.y) / 700.0).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert module.train_mae.compute() == (module(batch) - batch.y).abs().mean()


def test_large_totals_are_normalised_before_they_are_rounded(batch: Batch) -> None:
    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.zeros(3, 1))

        def forward(self, *_: object, **__: object) -> torch.Tensor:
            return self.value

    # Total energies 1e6 away and 1e-3 apart: float32 has steps of 0.06 there.
    batch.y = torch.tensor([[1e6], [1e6 + 1e-3], [1e6 - 1e-3]], dtype=torch.float64)
    module = PropertyRegression(Recorder(), mean=1e6, std=1e-3)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    loss = module.training_step(batch, 0)
    assert loss.item() == pytest.approx(2 / 3, rel=1e-6)


def test_non_finite_loss_stops_with_epoch_and_batch(tiny: Tiny, batch: Batch) -> None:
    model = tiny()
    nn.init.constant_(next(model.parameters()), float("nan"))
    module = PropertyRegression(model, mean=0.0, std=1.0)
    with pytest.raises(NonFiniteError, match="became nan in epoch 1, batch 8"):
        module.training_step(batch, 7)


def test_labels_of_another_shape_are_refused(tiny: Tiny, batch: Batch) -> None:
    batch.y = batch.y[:, 0]
    with pytest.raises(ShapeError, match=r"y: shape \(3,\), the model returns"):
        PropertyRegression(tiny(), 0.0, 1.0).validation_step(batch)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"std": 0.0}, "std"),
        ({"std": float("nan")}, "std"),
        ({"mean": float("inf")}, "mean"),
        ({"lr": -1.0}, "lr"),
        ({"schedule": "linear"}, "schedule: 'linear'"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"final_lr_factor": 1.5}, "final_lr_factor"),
    ],
)
def test_settings_out_of_range_are_refused(
    tiny: Tiny, changed: dict[str, float], message: str
) -> None:
    settings = {"mean": 0.0, "std": 1.0, **changed}
    with pytest.raises(ConfigError, match=message):
        PropertyRegression(tiny(), **settings)  # type: ignore[arg-type]


def test_rate_warms_up_and_falls_along_the_cosine() -> None:
    factors = [learning_rate_factor(s, 110, "cosine", 10, 0.1) for s in range(111)]
    assert factors[:10] == pytest.approx([(s + 1) / 11 for s in range(10)])
    assert factors[10] == 1.0
    assert factors[60] == pytest.approx(0.55)
    assert factors[110] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    assert learning_rate_factor(500, 110, "cosine", 10, 0.1) == pytest.approx(0.1)
    assert learning_rate_factor(500, 0, "constant", 10, 0.1) == 1.0


def test_optimiser_is_amsgrad_without_weight_decay(tiny: Tiny) -> None:
    settings = PropertyRegression(tiny(), 0.0, 1.0).configure_optimizers()
    group = settings["optimizer"].param_groups[0]
    assert isinstance(settings["optimizer"], torch.optim.Adam)
    assert (group["amsgrad"], group["weight_decay"], group["lr"]) == (True, 0, 5e-4)


def test_a_prediction_that_is_not_finite_does_not_drop_out_of_the_mean(
    tiny: Tiny, batch: Batch
) -> None:
    module = PropertyRegression(tiny(), mean=0.0, std=1.0)
    batch.y[1] = float("nan")
    with pytest.raises(NonFiniteError, match=r"valid: .* not finite in epoch 1"):
        module.validation_step(batch)


def test_sums_of_errors_stay_in_double_precision_on_a_device(tiny: Tiny) -> None:
    module = PropertyRegression(tiny(), 0.0, 1.0).to("cpu").float()
    module.train_loss.update(1.0 + 1e-12, 3)
    assert module.train_loss.compute() == 1.0 + 1e-12
