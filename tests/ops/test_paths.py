from __future__ import annotations

import pytest
import torch

from torch_cormorant import clebsch_gordan
from torch_cormorant.errors import ConfigError
from torch_cormorant.ops import PathTable


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("parity", ["all", "even"])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (2, 1, 3), (3, 3, 3), (6, 6, 6)])
def test_blocks_hold_every_path_once(
    degrees: tuple[int, int, int], parity: str, folded: bool
) -> None:
    table = PathTable(*degrees, parity, folded)
    found = {}
    for block in table.blocks:
        row = 0
        for l, position, first in block.places:
            assert first == row
            row += 2 * l + 1
            found[block.l1, block.l2, l] = position
        assert row == block.rows
    assert set(found) == set(table.paths)
    for l, count in enumerate(table.counts):
        ends = [path for path in table.paths if path[2] == l]
        assert [found[path] for path in ends] == list(range(count))
    assert sum(table.counts) == len(table.paths)
    assert table.used_lmax2 == max(l2 for _, l2, _ in table.paths)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_matrices_are_rounded_once(dtype: torch.dtype) -> None:
    """Of exact entries, never of entries rounded to another type before."""
    table = PathTable(3, 3, 3)
    for block in table.blocks:
        found = table.matrix(block, torch.zeros(0, dtype=dtype))
        assert found.dtype == dtype
        for l, _, row in block.places:
            cg = clebsch_gordan(block.l1, block.l2, l, dtype=dtype)
            rows = found[row : row + 2 * l + 1]
            assert torch.equal(rows, cg.flatten(0, 1).t())


def test_unknown_parity_is_refused() -> None:
    with pytest.raises(ConfigError, match="odd"):
        PathTable(1, 1, 1, "odd")
