"""Many properties at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

from torch_cormorant import save_model
from torch_cormorant.cli.readable import readable
from torch_cormorant.models import ModelInfo, Normalisation, Predictor
from torch_cormorant.networks import CormorantNetwork


def test_digits_follow_the_spread() -> None:
    columns = [("U0", "eV"), ("mu", "Debye"), ("ratio", "")]
    values = torch.tensor([[-4216.9876, 1.41312, 3.0]], dtype=torch.float64)
    std = torch.tensor([[0.0341, 12.6, 0.0]], dtype=torch.float64)
    assert readable(["CCO"], columns, values, std) == (
        "CCO\n  U0     -4216.988 ± 0.034 eV\n  mu     1 ± 13 Debye\n  ratio  3\n"
    )
    assert readable(["CCO"], columns[:1], values[:, :1]).endswith("-4216.99 eV\n")


@pytest.mark.parametrize(("count", "terminal"), [(4, True), (4, False), (3, True)])
def test_only_at_a_terminal(
    cormorant: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    terminal: bool,
) -> None:
    pytest.importorskip("rdkit")
    names = ("U0", "U", "H", "G")[:count]
    size = Normalisation((1.0,) * count, (1.0,) * count)
    options = {"channels": 4, "num_levels": 1, "lmax": 1, "num_targets": count}
    model = Predictor(CormorantNetwork([1, 6, 8], **options))
    model.info = ModelInfo(names, ("eV",) * count, size)
    save_model("m.safetensors", model)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    text = cormorant("predict", "m.safetensors", "O")
    if terminal and count == 4:
        assert text.splitlines()[0] == "O"
        assert [line.split()[0] for line in text.splitlines()[1:]] == list(names)
    else:
        assert text.startswith("name,U0 [eV],")
