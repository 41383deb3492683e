"""The ``key=value`` pairs in the second line of a frame of extended XYZ."""

from __future__ import annotations

import re

__all__ = ["number_of", "parse_pairs"]

_SPACES = " \t\r\v\f"
_CLOSING = {'"': '"', "'": "'", "{": "}", "[": "]"}
# Fortran writes double precision as 1.0D-03.
_FORTRAN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))[dD]([+-]?\d+)")
# A line that speaks of one of them is no comment.
_EXTENDED = re.compile(r"(?:^|[\s\"'\]}])(?:properties|lattice|pbc)\s*=", re.IGNORECASE)
# Names whose pair must not get lost within the value of another one.
_READ = re.compile(
    "properties|lattice|pbc|config_type|energy|force|stress|virial|dipole",
    re.IGNORECASE,
)
# These are never empty, so that a word behind a space is theirs.
_NEVER_EMPTY = {"properties", "lattice", "pbc", "config_type"}


def parse_pairs(line: str) -> tuple[dict[str, str], dict[str, str]]:
    r"""The ``key=value`` pairs of a line; a key alone is true.

    A line without any ``=`` is a comment. A value that stands in neither quotes nor
    brackets ends at the next space; nothing right behind ``=`` is an empty text, as ASE
    writes it. Within quotes ``\"``, ``\\`` and ``\n`` stand for a quote, a backslash
    and a new line; any other backslash is one.

    Args:
        line: The line.

    Returns:
        The pairs, and those that stand there again with another value.

    Raises:
        ValueError: A quote or bracket is not closed; in extended XYZ also: a key has
            two values, a bare value holds a quote or another pair, or something follows
            a closing quote.

    Example:
        >>> parse_pairs('label= pbc="F F F" final')
        ({'label': '', 'pbc': 'F F F', 'final': 'T'}, {})
    """
    found: dict[str, str] = {}
    twice: dict[str, str] = {}
    if "=" not in line:
        return found, twice
    strict = _EXTENDED.search(line) is not None
    position = 0
    while (position := _skip_spaces(line, position)) < len(line):
        key, position = _word(line, position, "=", strict=strict)
        sign = _skip_spaces(line, position)
        value = "T"
        if line[sign : sign + 1] == "=":
            start = _start_of_value(line, key, sign, spaced=sign > position)
            value, position = _word(line, start, "", strict=strict)
            if strict and line[start : start + 1] not in _CLOSING:
                _check_bare(key, value)
        if not key:
            continue
        if key in found and _differ(found[key], value):
            if strict:
                raise ValueError(
                    f"{key!r} is there twice: {found[key]!r} and {value!r}"
                )
            twice[key] = value
        found[key] = value
    return found, twice


def number_of(word: str) -> float:
    """One number, also one that Fortran wrote.

    Args:
        word: The word.

    Raises:
        ValueError: The word is none.

    Example:
        >>> number_of("1.5D-03")
        0.0015
    """
    if "_" in word:  # which Python takes as a part of a number
        raise ValueError(f"{word!r} is no number")
    found = _FORTRAN.fullmatch(word)
    return float(f"{found[1]}e{found[2]}" if found else word)


def _start_of_value(line: str, key: str, sign: int, *, spaced: bool) -> int:
    """Where the value behind ``=`` starts; at a space if it is an empty text."""
    after = sign + 1
    start = _skip_spaces(line, after)
    if start in (after, len(line)):
        return after
    _, end = _word(line, start, "=", strict=False)
    behind = _skip_spaces(line, end)
    if line[behind : behind + 1] == "=":
        return after  # the next word is the key of a pair
    if spaced or key.lower() in _NEVER_EMPTY or line[start] in _CLOSING:
        return start  # written by hand: "E = high"
    try:
        number_of(line[start:end])
    except ValueError:
        return after  # ASE writes an empty text, and a key alone for None
    return start


def _check_bare(key: str, value: str) -> None:
    """Refuse a bare value that swallows something.

    Raises:
        ValueError: It does.
    """
    quote = any(letter in value for letter in "\"'")
    name, sign, _ = value.partition("=")
    if quote or (sign and _READ.search(name)):
        what = "a quote" if quote else "another pair"
        raise ValueError(
            f"{key!r}: {value[:60]!r} holds {what}; put the whole value in quotes, or "
            "a space before what is no part of it"
        )


def _differ(one: str, other: str) -> bool:
    if one == other:
        return False
    try:
        return number_of(one) != number_of(other)
    except ValueError:
        return True


def _skip_spaces(line: str, position: int) -> int:
    while position < len(line) and line[position] in _SPACES:
        position += 1
    return position


def _word(line: str, start: int, stop: str, *, strict: bool) -> tuple[str, int]:
    """One word from ``start`` on, quoted or not, and where it ends."""
    close = _CLOSING.get(line[start : start + 1])
    if close is None:
        end = start
        while end < len(line) and line[end] not in _SPACES and line[end] != stop:
            end += 1
        # A sign without a key before it is passed over by the caller.
        return line[start:end], end
    if close in "\"'":
        word, end = _quoted(line, start, close)
    else:
        end = _closed(line, start, close)
        word = line[start:end]
    if strict and line[end : end + 1] not in ("", "=", *_SPACES):
        raise ValueError(f"text follows a closing {close}: {line[start : end + 20]!r}")
    return word, end


def _quoted(line: str, start: int, close: str) -> tuple[str, int]:
    letters: list[str] = []
    position = start + 1
    while position < len(line):
        letter = line[position]
        if letter == close:
            return "".join(letters), position + 1
        if letter == "\\" and line[position + 1 : position + 2] in (close, "\\", "n"):
            position += 1
            letter = "\n" if line[position] == "n" else line[position]
        letters.append(letter)
        position += 1
    raise ValueError(f"a quote is not closed: {line[start : start + 40]!r}")


def _closed(line: str, start: int, close: str) -> int:
    depth = 0
    for position in range(start, len(line)):
        depth += (line[position] == line[start]) - (line[position] == close)
        if depth == 0:
            return position + 1
    raise ValueError(f"a bracket is not closed: {line[start : start + 40]!r}")
