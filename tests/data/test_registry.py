"""The table of known data sets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import torch_cormorant.data
from torch_cormorant.data import (
    DATASETS,
    MiniEthanol,
    MiniQM9,
    dataset_info,
    fetch_dataset,
    verify_dataset,
)
from torch_cormorant.errors import ConfigError, DataError


@pytest.mark.parametrize("name", DATASETS)
def test_every_set_says_what_it_is(name: str) -> None:
    text = dataset_info(name).describe()
    for word in ("level of theory:", "units:", "licence:", "reference:", "read by:"):
        assert word in text
    reader = dataset_info(name).how.split("(")[0]
    assert reader in torch_cormorant.data.__all__


@pytest.mark.parametrize(
    ("name", "loaded"), [("mini_qm9", MiniQM9), ("mini-ethanol", MiniEthanol)]
)
def test_embedded_sets_are_those_of_the_table(name: str, loaded: type) -> None:
    (check,) = verify_dataset(name)
    assert check.verdict == "right"
    assert check.digest == loaded().digest
    assert fetch_dataset(name, Path("unused")) == [check.path]


def test_names_are_found_or_the_nearest_is_suggested() -> None:
    for spelling in ("Mini_QM9", "mini-qm9", "mini_qm9"):
        assert dataset_info(spelling).name == "mini_qm9"
    assert not [name for name in DATASETS if "-" in name], "one spelling is shown"
    with pytest.raises(ConfigError, match="no 'rmd71'; did you mean 'rmd17'"):
        dataset_info("rmd71")


def test_files_that_are_there_are_not_fetched_and_are_verified(
    samples: SimpleNamespace, tmp_path: Path
) -> None:
    root = samples.write_pyg(tmp_path)
    files = fetch_dataset("qm9", root)
    assert [file.name for file in files] == [
        "gdb9.sdf",
        "gdb9.sdf.csv",
        "uncharacterized.txt",
    ]
    verdicts = [check.verdict for check in verify_dataset("qm9", root)]
    assert verdicts == ["no digest is known", "no digest is known", "WRONG"]
    with pytest.raises(DataError, match="holds no file of rmd17"):
        verify_dataset("rmd17", root)
    path = root / "raw/rmd17/npz_data/rmd17_ethanol.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, x=0)
    assert fetch_dataset("rmd17", root) == [path]
    assert len(verify_dataset("rmd17", root)) == 1
