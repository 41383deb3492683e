"""Model files: what goes in comes out, and nothing else is read."""

from __future__ import annotations

import json
import math
import re
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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

H2O = {"1": 2, "8": 1}
UNITS = Normalisation((-5.0,), (0.25,), {1: (-13.6,), 8: (-2041.25,)})
NO_OXYGEN = {"mean": [0.0], "std": [1.0], "atom_values": {"1": [-13.6]}}
Z = torch.tensor([8, 1, 1])
POS = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])


def small(**changed: object) -> Cormorant:
    settings = {"species": (1, 8), "num_levels": 2, "lmax": 1, "channels": 4}
    return Cormorant(**{**settings, "hidden": 8, "middle": 4, **changed})  # type: ignore[arg-type]


def header_of(path: Path) -> dict[str, Any]:
    """The entries of the header."""
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    content: dict[str, Any] = json.loads(header["__metadata__"][KEY])
    return content


def rewritten(path: Path, change: dict[str, object]) -> Path:
    """Write the file again with other entries in its header, digest and all."""
    return with_header(path, json.dumps({**header_of(path), **change}))


def with_header(path: Path, content: str) -> Path:
    """Write the file again with another header, digest and all."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    content = re.sub("sha256:[0-9a-f]{64}", _BLANK.decode(), content, count=1)
    header["__metadata__"][KEY] = content
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_compact_file_holds_the_same_numbers(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    from safetensors.torch import load_file

    model = small().to(dtype)
    odd, *rest = model.parameters()
    for weight in rest:  # what float16 holds exactly
        weight.data = weight.data.half().to(dtype)
    odd.data.view(-1)[0] = 1 / 3
    for compact in (False, True):
        save_model(tmp_path / f"{compact}", model, compact=compact)
    found = dict(load_model(tmp_path / "True").named_parameters())
    stored = {name: one.dtype for name, one in load_file(tmp_path / "True").items()}
    for name, value in model.named_parameters():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], value), name
        assert stored[name] == (dtype if value is odd else torch.float16)
    sizes = [(tmp_path / name).stat().st_size for name in ("False", "True")]
    assert sizes[1] < 0.8 * sizes[0]


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
        ({"units": ["eV", "eV"]}, "targets, units and normalisation are for"),
        ({"targets": []}, "targets, units and normalisation are for"),
        ({"targets": [1]}, "targets: 1, expected a text"),
        ({"dtype": "float16"}, "dtype: 'float16', expected float32 or float64"),
        ({"dtype": "float64"}, r"torch.float32 .*, expected torch.float64"),
        ({"length_unit": "bohr"}, "length_unit: 'bohr', expected 'Angstrom'"),
        ({"training": ["x"]}, "training: .*, expected a mapping"),
        ({"training": {"compositions": "H2O"}}, "compositions: 'H2O', expected"),
        ({"training": {"compositions": [{"8": "one"}]}}, "compositions: .*expected"),
        ({"normalisation": NO_OXYGEN}, "atom_values: element 8 of the model has none"),
        ({"normalisation": {**NO_OXYGEN, "mean": ["0"]}}, "'0' is no number"),
        ({"normalisation": {**NO_OXYGEN, "shift": 1}}, "not understood .'shift'"),
        ({"later": 1}, "header: 'later' is not known"),
    ],
)
def test_files_that_do_not_fit_name_the_reason(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    save_model(tmp_path / "a", small())
    with pytest.raises(ModelFileError, match=message):
        load_model(rewritten(tmp_path / "a", change))


def test_every_entry_of_a_header_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_model(path, small(), normalisation=UNITS)
    content = header_of(path)
    for name in content:
        if name == "digest":
            continue
        rest = {key: value for key, value in content.items() if key != name}
        with pytest.raises(ModelFileError, match=name.split("_")[0]):
            load_model(with_header(path, json.dumps(rest)))
    for name in content["config"]:
        rest = {key: v for key, v in content["config"].items() if key != name}
        with pytest.raises(ModelFileError):
            load_model(with_header(path, json.dumps({**content, "config": rest})))
    load_model(with_header(path, json.dumps(content)))


def test_nothing_is_said_twice(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_model(path, small())
    text = json.dumps(header_of(path))
    for twice in ('"cutoff": 3.0, "cutoff"', '"length_unit": "nm", "length_unit"'):
        name = twice.split()[-1]
        with pytest.raises(ModelFileError, match=f"key '{name[1:-1]}' stands there tw"):
            load_model(with_header(path, text.replace(name, twice, 1)))
    with pytest.raises(ModelFileError, match="NaN is no number of JSON"):
        load_model(with_header(path, text.replace("5.0", "NaN", 1)))
    with pytest.raises(ModelFileError, match="1e999 is too large"):
        load_model(with_header(path, text.replace("5.0", "1e999", 1)))


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_model(path, small())
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    text = raw[8 : 8 + length].decode()
    name = min(dict(small().named_parameters()))
    entry = re.findall(f'"{re.escape(name)}":{{[^}}]*}}', text)[0]
    text = text.replace(entry, f"{entry},{entry}")
    digest = re.sub("sha256:[0-9a-f]{64}", _BLANK.decode(), text, count=1).encode()
    new = len(digest).to_bytes(8, "little") + digest + raw[8 + length :]
    path.write_bytes(new.replace(_BLANK, b"sha256:" + _digest(new).encode(), 1))
    with pytest.raises(ModelFileError, match="stands there twice"):
        load_model(path)


LARGE: list[dict[str, object]] = [
    {name: 10**9}
    for name in ("num_targets", "num_levels", "channels", "hidden", "lmax", "num_basis")
]
LARGE += [{name: 9_999} for name in ("num_targets", "num_levels", "num_mpnn_layers")]
LARGE += [
    {"num_mpnn_layers": 100_000},
    {"head": ["extensive"] * 10_000},
    {"head": ["published"] * 10_000},
    {"head": {"kind": "so3", "degree": 10**9}},
    {"charge_power": 10**12},
    {"lmax_sh": [1] * 100_000},
]


@pytest.mark.parametrize("asked", LARGE, ids=lambda asked: str(asked)[:40])
def test_a_header_that_asks_for_too_much_is_refused_at_once(
    tmp_path: Path, asked: dict[str, object]
) -> None:
    save_model(tmp_path / "a", small())
    config = {**header_of(tmp_path / "a")["config"], **asked}
    rewritten(tmp_path / "a", {"config": config})
    started = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError):
        load_model(tmp_path / "a")
    assert time.perf_counter() - started < 2
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert grown < 64 * 1024, "kilobytes"


def numbers(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the numbers of a header are."""
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in numbers(v, (*place, k))]
    if isinstance(value, list):
        return [p for k, v in enumerate(value) for p in numbers(v, (*place, k))]
    return [place] if isinstance(value, (int, float)) or value is None else []


ANYTHING = st.one_of(
    st.integers(-3, 12),
    st.integers(),
    st.sampled_from([10**k for k in range(1, 30)]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.lists(st.integers(-1, 9), max_size=4),
    st.dictionaries(st.text(max_size=2), st.integers(0, 3), max_size=2),
)


@pytest.fixture(scope="module")
def water(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("water") / "a"
    save_model(path, small(), normalisation=UNITS, training={"compositions": [H2O]})
    return path.read_bytes()


@settings(max_examples=150, deadline=2000, derandomize=True)
@given(data=st.data())
def test_any_change_of_a_number_is_refused_or_read_as_it_stands(
    data: st.DataObject, water: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(water)
        content = header_of(path)
        place = data.draw(st.sampled_from(numbers(content)))
        inner = content
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = data.draw(ANYTHING)
        with_header(path, json.dumps(content))
        try:
            found = load_model(path)
        except ModelFileError:
            return
        assert found.config == content["config"]
        assert found.info.normalisation.as_dict() == content["normalisation"]
        assert found.info.training == content["training"]


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    path, model = tmp_path / "a", small()
    for training, reason in (
        ({"text": "x" * (17 << 20)}, r"header has 17\.0 MiB.*shorten"),
        ({1: 2, "1": 3}, "JSON"),
        ({"compositions": [{"H": 1}]}, "numbers of atoms by atomic number"),
    ):
        with pytest.raises(ConfigError, match=reason):
            save_model(path, model, training=training)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="element 8 of the model has none"):
        save_model(path, model, normalisation=Normalisation.from_dict(NO_OXYGEN))
    model.head.double()
    with pytest.raises(ConfigError, match=r"float64 .*, expected torch.float32"):
        save_model(path, model)
    model = small()
    model.config["cutoff"] = 4
    with pytest.raises(ConfigError, match="could not be read again"):
        save_model(path, model.half())
    assert list(tmp_path.iterdir()) == []
    long = {"epochs": ["x" * 1000] * 5000}
    save_model(path, small(), training=long)
    assert load_model(path).info.training == long


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
    with pytest.raises(ModelFileError, match="a folder; give a file of it"):
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


def test_potentials_that_say_nothing_of_it_are_complex(tmp_path: Path) -> None:
    model = Cormorant.potential([1, 8], size="complex", channels=4, num_levels=1)
    save_model(tmp_path / "a", model, normalisation=UNITS)
    config = header_of(tmp_path / "a")["config"]
    del config["complex"]
    read = load_model(rewritten(tmp_path / "a", {"config": config}))
    assert read.config == model.config
