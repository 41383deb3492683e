"""The script that makes organic frames with GFN2-xTB, and how they are split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from organic_gfn2 import shards
from organic_gfn2.classes import CLASSES
from organic_gfn2.gfn2 import Labelled
from organic_gfn2.splits import PARTS, part_of_frame, part_of_molecule

import torch_cormorant
from torch_cormorant.data import MiniEthanol, frame_parts, read_npz
from torch_cormorant.errors import ConfigError
from torch_cormorant.train import make_config
from torch_cormorant.train.sources import divided, load_data

MINI = Path(torch_cormorant.__file__).parent / "data" / "mini_qm9.npz"
NAMES = [f"C{'C' * k}O" for k in range(400)]


def named(part: str) -> str:
    return next(name for name in NAMES if part_of_molecule(name) == part)


def frames(name: str, z: list[int], count: int) -> Labelled:
    pos = np.arange(3.0 * count * len(z)).reshape(count, len(z), 3)
    return Labelled(
        name, np.array(z), pos, np.arange(count) - 10.0 * z[0], -pos, Counter()
    )


def shard(folder: Path, kind: str, found: list[Labelled]) -> Path:
    path = folder / f"{kind}.npz"
    shards.saved(path, shards.flat(kind, found))
    return path


def test_a_tenth_of_the_molecules_is_kept_from_training() -> None:
    count = Counter(map(part_of_molecule, NAMES))
    assert set(count) == set(PARTS)
    assert 0.8 < count["train"] / len(NAMES) < 0.97
    assert {part_of_molecule(name) for name in ("O", "[6]", "[1][8]")} == {"train"}


@pytest.mark.parametrize(
    ("names", "part"),
    [(("train", "valid"), "valid"), (("test", "valid", "train"), "test")],
)
def test_a_cluster_goes_where_its_strictest_molecule_goes(
    names: tuple[str, ...], part: str
) -> None:
    name = ".".join(map(named, names))
    assert part_of_frame(name, held_out=False) == part
    assert part_of_frame(name, held_out=True) == "held_out"


def test_parts_of_the_joined_file_share_no_molecule(tmp_path: Path) -> None:
    held_out = next(name for name, kind in CLASSES.items() if kind.held_out)
    small = [frames(name, [8, 6, 1], 2) for name in NAMES[:60]]
    small.append(frames(NAMES[0], [8, 6, 1], 0))
    paths = [
        shard(tmp_path, "atoms", [frames("[1]", [1], 1), frames("[6]", [6], 1)]),
        shard(tmp_path, "qm9_modes", small),
        shard(tmp_path, held_out, [frames(named("train"), [6, 6], 3)]),
    ]
    arrays = shards.joined(paths)
    path = tmp_path / "all.npz"
    shards.saved(path, arrays)
    assert frame_parts(path) == sorted([*PARTS, "held_out"])
    for name, part in zip(arrays["molecule"], arrays["split"], strict=True):
        assert part in {part_of_molecule(str(name)), "held_out"}
    train, held = (read_npz(path, part) for part in ("train", "held_out"))
    assert len(held) == 3
    assert train.isolated_energies == {1: -10.0, 6: -60.0}
    assert (train.unit, train.level_of_theory) == ("eV", "GFN2-xTB")
    assert sum(len(read_npz(path, part)) for part in frame_parts(path)) == 125
    assert train[2].z.tolist() == [8, 6, 1]
    assert train[2].forces.equal(-train[2].pos)


def test_shards_hold_every_structure_once(tmp_path: Path) -> None:
    todo = shards.tasks(CLASSES, 0.1, 0, MINI, tmp_path)
    assert len({task.path for task in todo}) == len(todo)
    for name, kind in CLASSES.items():
        mine = [range(t.first, t.last) for t in todo if t.kind == name]
        wanted = kind.structures if kind.whole else np.ceil(kind.structures * 0.1)
        assert sorted(k for each in mine for k in each) == list(range(int(wanted)))


def test_a_shard_with_a_record_is_not_made_again(tmp_path: Path) -> None:
    task = shards.tasks(["atoms"], 1.0, 0, MINI, tmp_path)[0]
    task.record.write_text('{"frames": 7}')
    assert shards.make(task) == {"frames": 7}
    assert not task.path.exists()


def needed() -> None:
    for package in ("tblite", "rdkit"):
        pytest.importorskip(package, reason=f"{package} is not installed")


def test_frames_are_made_the_same_again(tmp_path: Path) -> None:
    needed()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for kind in ("qm9_bonds", "dimers"):
            task = shards.Task(kind, 3, 4, 5, MINI, tmp_path / folder)
            record = shards.make(task)
            dropped = sum(record["dropped_frames"].values())
            assert record["frames"] + dropped == CLASSES[kind].frames
    paths = [sorted((tmp_path / each).glob("*.npz")) for each in ("one", "two")]
    assert [p.read_bytes() for p in paths[0]] == [p.read_bytes() for p in paths[1]]
    found = [read_npz(path) for path in paths[0]]
    assert all(frames.energies.max() < -50 for frames in found)
    assert max(data.forces.norm(dim=1).max() for data in found[0]) <= 30


def test_forces_are_slopes_of_the_energy() -> None:
    needed()
    from organic_gfn2.gfn2 import Gfn2

    potential = Gfn2(np.array([8, 1, 1]))
    pos = np.array([[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.1, -0.7, -0.5]])
    step = np.zeros_like(pos)
    step[1, 1] = 1e-3
    above, below = (potential(pos + sign * step)[0] for sign in (1, -1))
    assert potential(pos)[1][1, 1] == pytest.approx((below - above) / 2e-3, abs=1e-3)


def test_what_is_absurd_is_dropped_and_counted() -> None:
    needed()
    from organic_gfn2.gfn2 import label

    pairs = [np.array([[0.0, 0, 0], [0, 0, r]]) for r in (0.3, 0.45, 0.74, 1.0)]
    found = label("[1][1]", np.array([1, 1]), pairs)
    assert found.dropped == {"atoms too close": 1, "forces too large": 1}
    assert len(found.energy) == 2
    assert found.energy[0] < found.energy[1]


def divided_file(folder: Path) -> Path:
    """Return frames of ten of water's atoms, in parts of unequal sizes."""
    words = ["train"] * 6 + ["valid"] * 2 + ["test"] * 2
    rng = np.random.default_rng(0)
    pos = rng.normal(size=(10, 2, 3)) + np.array([[0, 0, 0], [0, 0, 3.0]])
    arrays = {"z": np.array([8, 1]), "pos": pos, "energy": rng.normal(size=10)}
    path = folder / "frames.npz"
    np.savez(path, **arrays, split=np.array(words)[::-1], energy_unit="eV")
    return path


def test_parts_of_a_file_divide_a_training(tmp_path: Path) -> None:
    data = read_npz(divided_file(tmp_path))
    split = data.split_by_part()
    assert [part.tolist() for part in split.parts] == [
        [4, 5, 6, 7, 8, 9],
        [2, 3],
        [0, 1],
    ]
    some = data.split_by_part(train=3, test=1, seed=1)
    assert set(some.train.tolist()) < set(split.train.tolist())
    assert [len(part) for part in some.parts] == [3, 2, 1]
    with pytest.raises(ConfigError, match=r"train: 7 frames asked for, .* has 6 in a"):
        data.split_by_part(train=7)
    with pytest.raises(ConfigError, match="its parts are none"):
        MiniEthanol().split_by_part()
    section = {"source": "frames", "path": str(data.source), "by_part": True}
    config = make_config({"data": {**section, "train": 4}})
    found = divided(load_data(config.data), vars(config.data))
    assert [len(part) for part in found.parts] == [4, 2, 2]
    with pytest.raises(ConfigError, match="leave out part"):
        make_config({"data": {**section, "part": "train"}})
    with pytest.raises(ConfigError, match="source 'mini_ethanol' has none"):
        make_config({"data": {"source": "mini_ethanol", "by_part": True}})
