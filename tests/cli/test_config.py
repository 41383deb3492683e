"""Configurations are checked whole before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torch_cormorant.cli.config import load_config, schema_text
from torch_cormorant.errors import ConfigError
from torch_cormorant.train import RunConfig

CONFIGS = sorted((Path(__file__).parents[2] / "examples/configs").glob("*.yaml"))
GOOD = """data:
  source: mini_qm9
  target: gap
training:
  lr: 1e-3
  epochs: 5
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_examples_are_fine(path: Path) -> None:
    config = load_config(path)
    assert config.data.source


def test_there_is_an_example_for_every_task() -> None:
    names = {path.stem for path in CONFIGS}
    assert names >= {
        "qm9_published",
        "qm9_recipe",
        "qm9_multi",
        "qm9_dipole",
        "md17_published",
        "md17_energies",
        "md17_forces",
        "own_extxyz",
        "own_properties",
        "mini_gap",
        "mini_ethanol",
    }


def test_values_and_overrides(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    overrides = ["training.epochs=7", "model.options.lmax=[2, 1]", "data.target=homo"]
    config = load_config(path, overrides)
    assert config.training.lr == 1e-3, "YAML alone takes 1e-3 for a word"
    assert config.training.epochs == 7
    assert config.model.options == {"lmax": [2, 1]}
    assert config.data.target == "homo"
    assert config.training.batch_size == RunConfig().training.batch_size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainig:\n  lr: 1\n", "line 1: trainig: no such section.*'training'"),
        (GOOD + "  epoch: 3\n", "line 7: training.epoch: .*did you mean 'epochs'"),
        (GOOD + "  ema: two\n", "line 7: training.ema: expected a number, found 'two'"),
        (GOOD + "  batch_size: 0\n", "line 7: training.batch_size: 0 is not at least"),
        (GOOD + "  clip: .nan\n", "line 7: training.clip: expected a number"),
        (GOOD + "  clip: -1\n", "training.clip: -1.0 is not at least 0"),
        (GOOD + "  balanced: 3\n", "training.balanced: expected yes or no"),
        (GOOD + "  threads: true\n", "training.threads: expected a whole number"),
        (GOOD + "  guard: skipp\n", "line 7: training.guard: .*did you mean 'skip'"),
        (GOOD + "  ema: 1\n", "training.ema: 1.0 is not below 1"),
        (
            GOOD + "model:\n  options:\n    chanels: 3\n",
            "line 9: model.options.chanels: no such key.*'channels'",
        ),
        (GOOD + "model: {network: potential}\n", "a potential needs frames"),
        ("data: {source: qm9, target: U0}\n", "data.path: missing"),
        ("data: {source: mini_qm9}\n", "data.target: missing"),
        ("data: {source: mini_ethanol, target: mu}\n", "data.target: source"),
        ("data:\n  - 3\n", "line 1: data: expected keys and values"),
        ("data: {target: [gap\n", "line 2: not YAML"),
        ("- data\n", "expected sections, found list"),
        ("3: {}\n", "3: sections have names"),
        ("a: &x [1]\ndata: *x\n", "aliases such as"),
        ("data: !!python/object/apply:os.system ['true']\n", "not YAML"),
        ("data: {seed: 0}\n", "data.seed: no such key"),
    ],
)
def test_mistakes_name_line_key_and_the_right_one(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text))


@pytest.mark.parametrize(
    "override", ["epochs=3", "training.epochs", "training.=3", "training.lr=[", "=3"]
)
def test_overrides_that_are_none(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="--override"):
        load_config(written(tmp_path, GOOD), [override])


def test_an_override_through_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lr holds no keys"):
        load_config(written(tmp_path, GOOD), ["training.lr.x=3"])


def test_missing_and_huge_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="too many"):
        load_config(written(tmp_path, "#" * 1_000_001))


def test_every_spelling_of_a_source_is_one(tmp_path: Path) -> None:
    for spelling in ("mini_qm9", "mini-qm9", "Mini-QM9"):
        text = f"data: {{source: {spelling}, target: gap}}\n"
        assert load_config(written(tmp_path, text)).data.source == "mini_qm9"
    found = load_config(written(tmp_path, "data: {source: rmd17, path: x}\n"))
    assert found.data.source == "md17"


def test_the_printed_keys_are_a_configuration(tmp_path: Path) -> None:
    text = schema_text().replace("target: ''", "target: gap")
    config = load_config(written(tmp_path, text))
    expected = RunConfig()
    expected.data.target = "gap"
    assert config == expected


@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.integers(0, len(GOOD)), st.integers(0, 20), st.binary(max_size=8)),
    )
)
def test_any_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    change: bytes | tuple[int, int, bytes],
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    raw = GOOD.encode()
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        place, cut, put = change
        path.write_bytes(raw[:place] + put + raw[place + cut :])
    try:
        config = load_config(path)
    except ConfigError:
        return
    assert config.training.epochs >= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD + "  lr: 1e-2\n",
            r"run\.yaml, lines 5 and 7: training.lr: is there twic",
        ),
        (GOOD + "data: {}\n", "lines 1 and 7: data: is there twice"),
        (
            GOOD + "model: {options: {lmax: 2,\n  'lmax': 3}}\n",
            "lines 7 and 8: model.options.lmax: is there twice",
        ),
        (
            GOOD + "model:\n  options:\n    head: [{kind: so3, kind: dipole}]\n",
            "lines 9 and 9: model.options.head.0.kind: is there twice",
        ),
    ],
)
def test_a_key_that_is_there_twice_is_refused_with_both_lines(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text))


def test_overrides_say_one_thing(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    load_config(path, ["training.epochs=7", "training.epochs=7"])
    with pytest.raises(
        ConfigError, match=r"training.epochs=7 and training.epochs=8: g"
    ):
        load_config(path, ["training.epochs=7", "training.epochs=8"])
    with pytest.raises(ConfigError, match="lmax: is there twice"):
        load_config(path, ["model.options={lmax: 2, lmax: 3}"])


def test_a_byte_order_mark_is_no_part_of_a_configuration(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    raw = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n"))
    assert load_config(path).training.epochs == 5
    path.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"run\.yaml: is text in UTF-16"):
        load_config(path)


def test_units_that_nobody_reads_are_refused(tmp_path: Path) -> None:
    text = "data: {source: frames, path: a.npz, units: {energy: eV, pos: bohr}}\n"
    with pytest.raises(ConfigError, match="only that of the energy can be named"):
        load_config(written(tmp_path, text))
