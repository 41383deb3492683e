"""Which part a frame belongs to: by its molecules, and by its class."""

from __future__ import annotations

import hashlib
import re

VALID, TEST = 5, 5  # per cent of the molecules
TRAINED = {"O", "O=C=O"}  # water is in most dimers, and no molecule is like CO2
PARTS = ("train", "valid", "test")


def part_of_molecule(smiles: str) -> str:
    """``train``, ``valid`` or ``test``, by the digest of a canonical SMILES.

    It depends on nothing else, so that more frames never move a molecule. Atoms and
    pairs of atoms (``[6]``, ``[1][8]``), water and CO2 are trained on.
    """
    if smiles in TRAINED or re.fullmatch(r"(\[\d+\]){1,2}", smiles):
        return "train"
    place = int.from_bytes(hashlib.sha256(smiles.encode()).digest()[:8], "big") % 100
    if place < TEST:
        return "test"
    return "valid" if place < TEST + VALID else "train"


def part_of_frame(name: str, held_out: bool) -> str:
    """Part of a frame of these molecules (SMILES joined by dots).

    A frame of several molecules goes where the strictest of them belongs: none of
    the test part is ever trained on, in no cluster. Classes that are held out are a
    part of their own.
    """
    if held_out:
        return "held_out"
    return max(map(part_of_molecule, name.split(".")), key=PARTS.index)
