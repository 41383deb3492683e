"""What a geometry is worth to a model of properties: DFT's own, or one from SMILES.

A model that is trained on relaxed DFT geometries is asked for test molecules of its
training at these, at RDKit's (ETKDG and MMFF), and at both relaxed by a potential:
DFT's then keeps its conformer, RDKit's has one of its own.

    python scripts/qm9_geometries.py --model qm9 --npz qm9_labelled.npz \
        --by organic-gfn2 --molecules 300 \
        --record docs/records/qm9_heads/geometries.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_cormorant.cli.evaluation import trained_split
from torch_cormorant.cli.prediction import property_values
from torch_cormorant.cli.relaxation import relaxed
from torch_cormorant.data import read_qm9
from torch_cormorant.errors import DataError
from torch_cormorant.interfaces.ase import from_smiles
from torch_cormorant.models import load_models
from torch_cormorant.version import __version__


def embedded(texts: Sequence[str], rows: Sequence[int]) -> dict[int, Data]:
    """Geometries of RDKit, by row, of those SMILES that have one."""
    found = {}
    for row, text in zip(rows, texts, strict=True):
        try:
            atoms = from_smiles(text)
        except DataError:
            continue
        z, pos = torch.tensor(atoms.numbers), torch.tensor(atoms.positions)
        found[row] = Data(z=z, pos=pos)
    return found


def errors(model: Any, frames: Sequence[Data], labels: Tensor) -> list[float]:
    """Mean absolute error of every property."""
    values, _ = property_values(model, frames, 64)
    off: list[float] = (values.double() - labels).abs().mean(0).tolist()
    return off


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Errors at the three geometries."""
    model: Any = load_models(given.model)
    model.warns = "never"
    data = read_qm9(npz=given.npz, target=list(model.info.targets))
    split = trained_split(model, data)
    if split is None:
        raise SystemExit(f"{given.npz}: not what {given.model} was trained on")
    with np.load(given.npz) as held:
        smiles = held["smiles"]
    rows = [row for row in split.test if smiles[row]][: given.molecules]
    found = embedded([str(smiles[row]) for row in rows], rows)
    same = [
        row
        for row in found
        if found[row].z.sort()[0].equal(torch.as_tensor(data[row].z).sort()[0])
    ]
    labels = torch.stack([data.values[row].double().flatten() for row in same])
    kinds: dict[str, Any] = {
        "dft": [data[row] for row in same],
        "rdkit": [found[row] for row in same],
    }
    by: Any = load_models(given.by)
    by.warns = "never"
    names = [str(smiles[row]) for row in same]
    for kind in ("dft", "rdkit"):
        kinds[f"{kind}_relaxed"] = relaxed(by, kinds[kind], names, 0.01)
    table = {kind: errors(model, frames, labels) for kind, frames in kinds.items()}
    return {
        "command": f"python scripts/qm9_geometries.py --molecules {given.molecules}",
        "version": __version__,
        "model": given.model,
        "relaxed_by": given.by,
        "molecules": len(same),
        "targets": list(model.info.targets),
        "units": list(model.info.units),
        "mae": table,
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print and perhaps keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="qm9")
    parser.add_argument("--npz", type=Path, required=True, help="labelled QM9")
    parser.add_argument("--by", default="organic-gfn2", help="the potential")
    parser.add_argument("--molecules", type=int, default=300)
    parser.add_argument("--record", type=Path, help="JSON file; default: print")
    given = parser.parse_args(argv)
    text = json.dumps(measured(given), indent=1) + "\n"
    if given.record is None:
        print(text, end="")
    else:
        given.record.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
