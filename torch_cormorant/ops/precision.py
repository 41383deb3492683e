"""Contractions in the precision of their tensors, whatever the process allows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from torch_cormorant.ops.autocast import full_precision

P = ParamSpec("P")
R = TypeVar("R")
REDUCED = ("tf32", "bf16x3")


@contextmanager
def no_tf32() -> Iterator[None]:
    """Matrix products of CUDA devices in full float32 inside a ``with`` block.

    TF32 keeps 10 bits of a number: allowed in Clebsch-Gordan contractions it would
    break equivariance at 1e-3. The switch of the process is put back as it was.
    """
    switch = torch.backends.cuda.matmul
    if hasattr(switch, "fp32_precision"):  # torch >= 2.9
        before = switch.fp32_precision
        if before not in REDUCED:
            yield
            return
        switch.fp32_precision = "ieee"
        try:
            yield
        finally:
            switch.fp32_precision = before
    elif switch.allow_tf32:
        switch.allow_tf32 = False
        try:
            yield
        finally:
            switch.allow_tf32 = True
    else:
        yield


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function of tensors, the first saying where, without TF32 and autocast."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[0]
        if not isinstance(first, Tensor) or first.device.type == "cpu":
            return function(*args, **kwargs)
        with no_tf32():
            return function(*args, **kwargs)

    return full_precision(run)
