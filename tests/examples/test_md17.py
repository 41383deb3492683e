"""Training of a potential as a user starts it, with little data and few epochs."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from torch_cormorant import load_model
from torch_cormorant.data import Frames
from torch_cormorant.train.sources import divided, load_data

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "md17.py"
SMALL = "--train-size 6 --valid-size 3 --test-size 4 --batch-size 3 --epochs 1"


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    threads = torch.get_num_threads()
    spec = importlib.util.spec_from_file_location("md17_example", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)


@pytest.fixture
def fail(
    example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Return a function that runs a bad command line and returns its one line."""

    def run(arguments: str) -> str:
        try:
            code = example.main(arguments.split())
        except SystemExit as leave:
            code = leave.code
        captured = capsys.readouterr()
        assert code == 2
        assert captured.err.count("\n") == 1, "one line"
        return captured.err

    return run


def test_a_first_run_and_its_resume(
    example: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert example.main(f"{SMALL} --out out".split()) == 0
    text = capsys.readouterr().out
    for part in (
        "MiniEthanol (not MD17), GFN2-xTB",
        "energy, forces, 6 / 3 / 4 train/valid/test",
        "potential network, head extensive",
        "epoch   1/1  loss ",
        "forces ",
        "force components",
        "mean of the training frames",
    ):
        assert part in text
    assert "paper" not in text, "other frames, other method"
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "learning_curve.png",
        "model.safetensors",
        "parity.png",
        "results.json",
        "settings.json",
    }
    command = f"{SMALL} --out out --resume".replace("--epochs 1", "--epochs 2")
    assert example.main(command.split()) == 0
    assert "a schedule that depends on the length changes" in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert [row["epoch"] for row in results["epochs"]] == [1, 2]
    model = load_model(out / "model.safetensors")
    assert model.info.units == ("eV",)
    assert model.info.training["test"]["energy_mae"] > 0


def test_energies_of_md17_with_the_network_of_the_paper(
    example: ModuleType,
    tmp_path: Path,
    shared: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    npz = shared / "data/md17/rmd17_ethanol.npz"
    arguments = (
        f"{SMALL} --npz {npz} --molecule ethanol --model published --out {tmp_path}/o"
    )
    assert example.main(arguments.split()) == 0
    text = capsys.readouterr().out
    assert "published network, head linear, 154,241 parameters" in text
    assert ": energy, 6 / 3 / 4" in text
    assert "force components" not in text
    row = next(line for line in text.splitlines() if "50,000 original" in line)
    assert row.endswith(" 0.02700")
    assert "MAE [kcal/mol]" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--molecule aspirin",
            "data.molecule: source 'mini_ethanol' holds none of MD17",
        ),
        ("--molecule water", "invalid choice"),
        ("--npz a", "--npz: a, expected the name of an .npz file"),
        ("--npz {tmp}/none.npz", "none.npz: no such file"),
        ("--train-size 3000", "the data set has 2000"),
        ("--lr 0", "training.lr: 0.0 is not more than 0"),
        ("--ema 1", "training.ema: 1.0 is not below 1"),
        ("--clip nan", "training.clip: expected a number, found nan"),
        ("--resume", "--resume needs --out"),
    ],
)
def test_mistakes_end_in_one_line(
    fail: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fail(arguments.format(tmp=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_official_split_of_revised_md17(
    example: ModuleType,
    shared: Path,
    fail: Callable[[str], str],
) -> None:
    npz = shared / "data/md17/rmd17_ethanol.npz"
    args = example.parse(f"--npz {npz} --official 2 --valid-size 50".split())
    config = example.configure(args)
    data = load_data(config.data)
    split = divided(data, vars(config.data))
    assert isinstance(data, Frames)
    assert split.digest == data.official_split(2, 50).digest
    assert [len(part) for part in split.parts] == [950, 50, 1000]
    assert "official_split: source 'mini_ethanol' has none" in fail("--official 1")
    sizes = f"--npz {npz} --official 2 --train-size 9"
    assert "leave out train and test, it has its own" in fail(sizes)
