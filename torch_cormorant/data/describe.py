"""What a data set says about itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch_cormorant.elements import SYMBOLS

__all__ = ["Words", "describe_rows", "sizes_text", "species_text", "symbol"]


def symbol(number: int) -> str:
    """Symbol of an element.

    Example:
        >>> symbol(17)
        'Cl'
    """
    return SYMBOLS[number]


def species_text(species: Sequence[int]) -> str:
    """The elements as text, such as ``H, C, O``."""
    return ", ".join(symbol(number) for number in species)


def sizes_text(sizes: Sequence[int]) -> str:
    """Smallest and largest number of atoms as text; a subset may be empty.

    Example:
        >>> sizes_text([3, 9, 5]), sizes_text([])
        ('3 to 9', 'none')
    """
    return f"{min(sizes):,} to {max(sizes):,}" if sizes else "none"


def describe_rows(title: str, rows: Mapping[str, str]) -> str:
    """A title and aligned lines ``name: value``."""
    width = max(len(name) for name in rows) + 2
    lines = [f"  {name + ':':{width}}{value}" for name, value in rows.items()]
    return "\n".join([title, *lines])


class Words(NamedTuple):
    """What a reader's arguments are called in messages, where others call it.

    Args:
        unit: The unit of the energies in a file.
        unit_advice: How it is given.
        part: The part of a divided file.
        missing: What to do about a property that is missing, with ``{field}`` for it.
    """

    unit: str = "file_unit"
    unit_advice: str = "file_unit='eV'"
    part: str = "part"
    missing: str = (
        "name the right one with {field}=..., or leave it out with {field}=None"
    )


PLAIN_WORDS = Words()
"""What they are called in Python."""
