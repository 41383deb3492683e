"""Model files: what goes in comes out, and nothing else is read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from torch_cormorant import (
    Cormorant,
    CormorantMD17,
    CormorantQM9,
    load_model,
    save_model,
)
from torch_cormorant.errors import ConfigError, ModelFileError
from torch_cormorant.models import ModelInfo, Normalisation
from torch_cormorant.models.files import _BLANK, FORMAT_VERSION, KEY, _digest

UNITS = Normalisation((-5.0,), (0.25,), {1: (-13.6,), 8: (-2041.25,)})
Z = torch.tensor([8, 1, 1])
POS = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])


def small(**changed: object) -> Cormorant:
    settings = {"species": (1, 8), "num_levels": 2, "lmax": 1, "channels": 4}
    return Cormorant(**{**settings, "hidden": 8, "middle": 4, **changed})  # type: ignore[arg-type]


def rewritten(path: Path, change: dict[str, object]) -> Path:
    """Write the file again with other entries in its header, digest and all."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    content = json.loads(header["__metadata__"][KEY])
    content.update(change, digest=_BLANK.decode())
    header["__metadata__"][KEY] = json.dumps(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    new = len(text).to_bytes(8, "little") + text + raw[8 + length :]
    new = new.replace(_BLANK, b"sha256:" + _digest(new).encode(), 1)
    path.write_bytes(new)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_network_comes_back_bit_by_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    model = small(paths="even", norm="norm", gate=True).to(dtype)
    record = {"seed": 3, "test_mae": 0.125}
    path = tmp_path / "new folder" / "water.safetensors"
    save_model(
        path,
        model,
        targets=["energy"],
        units=["eV"],
        normalisation=UNITS,
        training=record,
    )
    found = load_model(path)
    assert not found.training
    assert found.config == model.config
    read = dict(found.named_parameters())
    for name, value in model.named_parameters():
        assert torch.equal(read[name], value), name
        assert read[name].dtype == value.dtype
    pos = POS.to(dtype)
    assert torch.equal(found(Z, pos), model(Z, pos))
    assert found.info.targets == ("energy",)
    assert found.info.units == ("eV",)
    assert found.info.normalisation == UNITS
    assert found.info.training == record
    assert len(found.info.digest) == 64


def test_predictions_are_in_the_units_of_the_file(tmp_path: Path) -> None:
    model = small()
    save_model(tmp_path / "a", model, normalisation=UNITS)
    found = load_model(tmp_path / "a")
    predicted = found.predict(Z, POS)
    expected = model(Z, POS).double() * 0.25 - 5.0 - 2 * 13.6 - 2041.25
    assert predicted.dtype == torch.float64
    assert not predicted.requires_grad
    torch.testing.assert_close(predicted, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("kind", [CormorantQM9, CormorantMD17])
def test_published_networks_keep_their_class(
    tmp_path: Path, kind: type[CormorantQM9 | CormorantMD17]
) -> None:
    model = kind(species=(1, 8), num_levels=1, lmax=1, channels=4)
    save_model(tmp_path / "a", model)
    found = load_model(tmp_path / "a")
    assert type(found) is kind
    assert set(found.to_original()) == set(model.to_original())


def test_a_file_that_was_read_can_be_written_again(tmp_path: Path) -> None:
    model = small()
    save_model(tmp_path / "a", model, normalisation=UNITS, training={"seed": 1})
    save_model(tmp_path / "b", load_model(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_file_is_plain_safetensors(tmp_path: Path) -> None:
    from safetensors import safe_open

    model = small()
    save_model(tmp_path / "a", model, targets=["gap"], units=["eV"])
    with safe_open(tmp_path / "a", "pt") as file:
        assert set(file.keys()) == {name for name, _ in model.named_parameters()}
        content = json.loads(file.metadata()[KEY])
    assert content["convention"] == "cormorant-real-1"
    assert content["units"] == ["eV"]
    assert content["config"]["lmax"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": FORMAT_VERSION + 1}, "format version 2"),
        ({"format": "other"}, "not a model file of torch-cormorant.*'other'"),
        ({"convention": "other"}, "convention 'other', this version reads"),
        ({"class": "Schnet"}, "do not fit together"),
        ({"dtype": "float7"}, "do not fit together"),
        ({"config": {"num_levels": 10**9}}, "num_levels: 1000000000"),
        ({"config": {"num_levels": 2, "channels": 10**6}}, "does not fit"),
        ({"config": {"colour": 1}}, "colour|unexpected"),
        ({"normalisation": {"mean": [0]}}, "normalisation: not understood"),
        ({"units": 3}, "do not fit together"),
    ],
)
def test_files_that_do_not_fit_name_the_reason(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    save_model(tmp_path / "a", small())
    with pytest.raises(ModelFileError, match=message):
        load_model(rewritten(tmp_path / "a", change))


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, tmp_path / "a")
    with pytest.raises(ModelFileError, match="not a model file of torch-cormorant"):
        load_model(tmp_path / "a")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "b")
    with pytest.raises(ModelFileError, match="not a model file of torch-cormorant"):
        load_model(tmp_path / "b")
    with pytest.raises(ModelFileError, match="c: cannot be read"):
        load_model(tmp_path / "c")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_model(tmp_path)


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    class Mine(Cormorant):
        pass

    other = Mine(num_levels=1, lmax=1, channels=4)
    with pytest.raises(ConfigError, match="a Mine cannot be written"):
        save_model(tmp_path / "a", other)
    with pytest.raises(ConfigError, match="the model has 1"):
        save_model(tmp_path / "a", small(), targets=["mu", "gap"])
    with pytest.raises(ConfigError, match="JSON"):
        save_model(tmp_path / "a", small(), training={"loss": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_normalisation_and_its_reverse_in_batches() -> None:
    units = Normalisation((1.0, -3.0), (2.0, 0.5), {1: (0.1, 7.0), 6: (4.0, -1.0)})
    z, batch = torch.tensor([6, 1, 1, 9]), torch.tensor([0, 0, 2, 2])
    output = torch.randn(3, 2)
    values = units.restore(output, z, batch)
    by_hand: list[Tensor] = [
        output[0].double() * units.scale(output) + torch.tensor([5.1, 3.0]),
        output[1].double() * units.scale(output) + torch.tensor([1.0, -3.0]),
        output[2].double() * units.scale(output) + torch.tensor([1.1, 4.0]),
    ]
    torch.testing.assert_close(values, torch.stack(by_hand), rtol=1e-7, atol=1e-7)
    back = units.normalise(values, z, batch)
    torch.testing.assert_close(back, output.double(), rtol=1e-13, atol=1e-13)
    assert Normalisation.from_dict(json.loads(json.dumps(units.as_dict()))) == units


@pytest.mark.parametrize(
    "arguments",
    [
        ((), ()),
        ((0.0,), (1.0, 2.0)),
        ((math.nan,), (1.0,)),
        ((0.0,), (0.0,)),
        ((0.0,), (1.0,), {1: (1.0, 2.0)}),
        ((0.0,), (1.0,), {119: (1.0,)}),
        ((0.0,), (1.0,), {1: (math.inf,)}),
    ],
)
def test_normalisation_that_cannot_be_undone_is_refused(
    arguments: tuple[object, ...],
) -> None:
    with pytest.raises(ConfigError):
        Normalisation(*arguments)  # type: ignore[arg-type]


def test_an_untrained_network_has_no_units() -> None:
    info = small(num_targets=2).info
    assert info == ModelInfo.untrained(2)
    assert info.units == ("", "")


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for device in ("gpu", *([] if torch.cuda.is_available() else ["cuda"])):
        with pytest.raises(ConfigError, match=f"device.*{device}"):
            load_model(path, device)
