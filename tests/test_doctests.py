"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import pytest

import torch_cormorant

ROOT = Path(torch_cormorant.__file__).parent
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = [
    ".".join(path.relative_to(folder.parent).with_suffix("").parts)
    for folder in (ROOT, BENCHMARKS)
    for path in sorted(folder.rglob("*.py"))
    if path.name != "__init__.py"
]


class Runner(doctest.DocTestRunner):
    """Lets an example skip itself with ``pytest.importorskip``."""

    def report_unexpected_exception(
        self,
        out: Callable[[str], object],
        test: doctest.DocTest,
        example: doctest.Example,
        exc_info: tuple[type[BaseException], BaseException, TracebackType],
    ) -> None:
        if isinstance(exc_info[1], pytest.skip.Exception):
            raise exc_info[1]
        super().report_unexpected_exception(out, test, example, exc_info)


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_a_module_run(name: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = Runner(optionflags=flags)
    skipped = []
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if (missing.name or "torch_cormorant").startswith("torch_cormorant"):
            raise
        pytest.skip(f"{name} needs {missing.name}")
    for example in doctest.DocTestFinder().find(module):
        try:
            runner.run(example)
        except pytest.skip.Exception as reason:
            skipped.append(str(reason))
    assert runner.summarize().failed == 0
    if skipped:
        pytest.skip("; ".join(skipped))
