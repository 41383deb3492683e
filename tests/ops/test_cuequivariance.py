"""The neighbour sum by cuEquivariance against the portable path."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from torch_cormorant.ops import (
    PathTable,
    build_plan,
    cuequivariance,
    neighbour_sum,
    portable,
)

ALL = (True, True, True)
needs_package = pytest.mark.skipif(
    not cuequivariance.is_available(),
    reason="the packages cuequivariance and cuequivariance-torch are not installed",
)


@needs_package
@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("degrees", [(1, 1, 1), (2, 1, 2), (3, 0, 3)])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_every_result_agrees(
    degrees: tuple[int, int, int], pairs: bool, dtype: torch.dtype
) -> None:
    edges = torch.tensor([[0, 1, 0, 2, 1, 2], [1, 0, 2, 0, 2, 1]])
    vec = torch.randn(6, 3, dtype=torch.float64)
    vec[1::2] = -vec[::2]
    plan, table = build_plan(edges, 3, 4 - pairs, vec), PathTable(*degrees)
    assert (plan.pairs is not None) == pairs
    x = torch.randn(3, (table.used_lmax2 + 1) ** 2, 2, dtype=dtype)
    g = torch.randn(3 if pairs else 6, table.lmax1 + 1, 2, dtype=dtype)
    sh = torch.randn(6, (table.lmax1 + 1) ** 2, dtype=torch.float64)
    args = (x, g, sh, plan, table)
    found, expected = cuequivariance.forward(*args), portable.forward(*args)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    grads = [torch.randn_like(t) for t in expected]
    first = cuequivariance.backward(*args, ALL, grads)
    reference = portable.backward(*args, ALL, grads)
    for mine, theirs in zip(first, reference, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    some = cuequivariance.backward(*args, (False, True, False), grads)
    assert some[0] is None
    assert some[2] is None


@needs_package
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_it_is_a_backend_by_name() -> None:
    plan = build_plan(torch.tensor([[0, 1], [1, 0]]), 2, 2)
    x = torch.randn(2, 4, 2, dtype=torch.complex128, requires_grad=True)
    g = torch.randn(2, 2, 2, dtype=torch.complex128)
    sh = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    grads = []
    for backend in ("cuequivariance", "portable"):
        outs = neighbour_sum(x, g, sh, plan, PathTable(1, 1, 1), backend)
        total = sum(t.abs().square().sum() for t in outs)
        first = torch.autograd.grad(total, (x, sh), create_graph=True)
        second = torch.autograd.grad(first[1].square().sum(), (x, sh))
        grads.append((*first, *second))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-11, atol=1e-11)


@needs_package
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_a_graph_without_edges_sums_to_zero() -> None:
    plan, table = (
        build_plan(torch.zeros(2, 0, dtype=torch.long), 2, 3),
        PathTable(1, 1, 1),
    )
    x = torch.randn(2, 4, 2, dtype=torch.complex64)
    g, sh = torch.zeros(0, 2, 2, dtype=torch.complex64), torch.zeros(0, 4)
    args = (x, g, sh, plan, table)
    outs = cuequivariance.forward(*args)
    assert [t.shape for t in outs] == [t.shape for t in portable.forward(*args)]
    assert not any(t.abs().sum() for t in outs)
    dx, dg, dsh = cuequivariance.backward(*args, ALL, outs)
    assert dx is not None
    assert not dx.abs().sum()
    assert dg is not None
    assert dsh is not None
    assert (dg.shape, dsh.shape) == (g.shape, sh.shape)


def test_a_missing_package_is_named() -> None:
    code = (
        "import sys\n"
        "sys.modules['cuequivariance'] = None\n"
        "from torch_cormorant.errors import BackendError\n"
        "from torch_cormorant.ops import cuequivariance\n"
        "try:\n"
        "    cuequivariance.forward(None, None, None, None, None)\n"
        "except BackendError as error:\n"
        "    assert 'pip install cuequivariance' in str(error)\n"
        "else:\n"
        "    raise SystemExit('no error')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
