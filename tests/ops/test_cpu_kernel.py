"""The C++ kernels against the portable operations, on every instruction set."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from torch_cormorant import CormorantConv, show_backends
from torch_cormorant.errors import BackendError
from torch_cormorant.ops import (
    PathTable,
    build_plan,
    cpu_kernel,
    edge_dots,
    folded_square,
    neighbour_sum,
    use_backend,
)

Agree = Callable[..., None]
RTOL = {torch.float64: 1e-13, torch.float32: 5e-6}
SETUP = Path(__file__).parents[2] / "setup.py"
INSTRUCTION_SETS = ("avx512", "avx2", "baseline")

kernel = pytest.mark.skipif(
    bool(cpu_kernel.problem()),
    reason=f"the CPU kernel is {cpu_kernel.problem()}: {cpu_kernel.remedy()}",
)


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test with one instruction set."""
    library = cpu_kernel.library()
    if not library.cormorant_use(request.param.encode()):
        pytest.skip(f"this processor has no {request.param}")
    assert cpu_kernel.instruction_set() == request.param
    yield request.param
    library.cormorant_use(b"")


def draw(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def derivatives(
    function: Callable[..., tuple[Tensor, ...]], inputs: list[Tensor], order: int
) -> list[Tensor]:
    """Values and derivatives along fixed directions, up to an order."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    outs = list(function(*leaves))
    found = [out.detach() for out in outs]
    for step in range(order):
        weights = [
            draw(*out.shape, dtype=out.dtype, seed=step + k)
            for k, out in enumerate(outs)
        ]
        products = [out * w for out, w in zip(outs, weights, strict=True)]
        loss = sum((p.real if p.is_complex() else p).sum() for p in products)
        last = step == order - 1
        outs = list(
            torch.autograd.grad(
                loss, leaves, create_graph=not last, materialize_grads=True
            )
        )
        found += [out.detach() for out in outs]
    return found


def compare(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: list[Tensor],
    order: int,
    agree: Agree,
) -> None:
    """The kernel agrees with the portable operations."""
    found = []
    for backend in ("cpu_kernel", "portable"):
        with use_backend(backend):
            found.append(derivatives(function, inputs, order))
    agree(*found, RTOL[inputs[0].dtype.to_real()])


def graph(nodes: int = 6, edges: int = 40) -> tuple[Tensor, int]:
    """A graph with receivers of very different degrees, one of them without edges."""
    generator = torch.Generator().manual_seed(5)
    index = torch.randint(0, nodes, (2, edges), generator=generator)
    index[1, : edges // 2] = 1
    index[1][index[1] == nodes - 1] = 0
    return index, nodes


@kernel
@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("paths", ["all", "even"])
@pytest.mark.parametrize("lmax", range(1, 7))
def test_every_degree(
    lmax: int,
    paths: str,
    complex_: bool,
    dtype: torch.dtype,
    agree: Agree,
) -> None:
    """All three operations, every path, values and gradients."""
    kind = dtype.to_complex() if complex_ else dtype
    index, nodes = graph(4, 9)
    plan = build_plan(index, nodes, nodes)
    table = PathTable(lmax, lmax, lmax, parity=paths)
    folded = PathTable(lmax, lmax, lmax, parity=paths, folded=True)

    def function(x: Tensor, g: Tensor, sh: Tensor) -> tuple[Tensor, ...]:
        sums = neighbour_sum(x, g, sh, plan, table)
        return (*sums, *folded_square(x, folded), edge_dots(x, x, *index))

    side = (lmax + 1) ** 2
    x = draw(nodes, side, 3, dtype=kind)
    g = draw(index.shape[1], lmax + 1, 3, dtype=kind, seed=1)
    sh = draw(index.shape[1], side, dtype=dtype, seed=2)
    compare(function, [x, g, sh], 1, agree)


@kernel
@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("channels", [1, 7, 16, 64, 128])
def test_every_width(
    channels: int,
    complex_: bool,
    dtype: torch.dtype,
    agree: Agree,
) -> None:
    """Widths that fill vectors and that do not, through the second derivative."""
    kind = dtype.to_complex() if complex_ else dtype
    index, nodes = graph()
    plan, table = build_plan(index, nodes, nodes), PathTable(2, 1, 2)
    folded = PathTable(1, 1, 2, folded=True)

    def function(x: Tensor, g: Tensor, sh: Tensor) -> tuple[Tensor, ...]:
        sums = neighbour_sum(x, g, sh, plan, table)
        return (*sums, *folded_square(x, folded), edge_dots(x, x, *index))

    x = draw(nodes, 4, channels, dtype=kind)
    g = draw(index.shape[1], 3, channels, dtype=kind, seed=1)
    sh = draw(index.shape[1], 9, dtype=dtype, seed=2)
    compare(function, [x, g, sh], 2, agree)


@kernel
@pytest.mark.parametrize("complex_", [True, False])
def test_third_derivative(complex_: bool, agree: Agree) -> None:
    index, nodes = graph(3, 6)
    plan, table = build_plan(index, nodes, nodes), PathTable(2, 2, 2)
    kind = torch.complex128 if complex_ else torch.float64
    x, g = draw(nodes, 9, 5, dtype=kind), draw(6, 3, 5, dtype=kind, seed=1)
    sh = draw(6, 9, dtype=torch.float64, seed=2)
    compare(lambda *a: neighbour_sum(*a, plan, table), [x, g, sh], 3, agree)


@kernel
@pytest.mark.parametrize("need", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_some_of_the_gradients(need: tuple[int, ...], agree: Agree) -> None:
    index, nodes = graph()
    plan, table = build_plan(index, nodes, nodes), PathTable(2, 2, 2)
    x = draw(nodes, 9, 3, dtype=torch.complex128)
    g = draw(40, 3, 3, dtype=torch.complex128, seed=1)
    inputs = [x, g, draw(40, 9, dtype=torch.float64, seed=2)]

    def function(*some: Tensor) -> tuple[Tensor, ...]:
        given = list(inputs)
        for k, value in zip(need, some, strict=True):
            given[k] = value
        return neighbour_sum(*given, plan, table)

    compare(function, [inputs[k] for k in need], 2, agree)


@kernel
@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(("lmax", "shared"), [(3, False), (3, True), (5, True)])
def test_results_do_not_depend_on_the_number_of_threads(
    lmax: int, shared: bool
) -> None:
    """Bit by bit: graphs cut into many pieces, one receiver larger than a piece."""
    generator = torch.Generator().manual_seed(5)
    nodes, edges = 60, 6_000 if lmax == 3 else 1_000
    index = torch.randint(0, nodes, (2, edges // 2), generator=generator)
    index[1, : edges // 4] = 7
    index = torch.cat([index, index.flip(0)], dim=1)
    half = draw(edges // 2, 3, dtype=torch.float32)
    vec = torch.cat([half, -half])
    plan = build_plan(index, nodes, nodes, edge_vec=vec if shared else None)
    assert (plan.pairs is not None) == shared
    table, folded = PathTable(lmax, 3, 3), PathTable(3, 3, 3, folded=True)
    rows = edges if plan.pairs is None else plan.pairs.edge.numel()
    x = draw(nodes, 16, 16, dtype=torch.complex64).requires_grad_()
    g = draw(rows, lmax + 1, 16, dtype=torch.complex64, seed=1).requires_grad_()
    sh = draw(edges, (lmax + 1) ** 2, dtype=torch.float32, seed=2).requires_grad_()

    def run() -> list[Tensor]:
        outs = [
            *neighbour_sum(x, g, sh, plan, table, "cpu_kernel"),
            *folded_square(x, folded, "cpu_kernel"),
            edge_dots(x, x, index[0], index[1], "cpu_kernel"),
        ]
        ones = [torch.ones_like(out) for out in outs]
        return [*outs, *torch.autograd.grad(outs, [x, g, sh], ones)]

    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7, 1):
            torch.set_num_threads(threads)
            found.append(run())
    finally:
        torch.set_num_threads(before)
    assert all(all(map(torch.equal, other, found[0])) for other in found[1:])


@kernel
def test_a_hundred_runs_give_equal_bits() -> None:
    """Values, gradients and their gradients, by one to four threads, fresh inputs."""
    generator = torch.Generator().manual_seed(6)
    nodes, edges = 20, 800
    index = torch.randint(0, nodes, (2, edges), generator=generator)
    index[1, : edges // 3] = 3
    plan, table = build_plan(index, nodes, nodes), PathTable(2, 2, 2)
    inputs = [
        draw(nodes, 9, 8, dtype=torch.complex64),
        draw(edges, 3, 8, dtype=torch.complex64, seed=1),
        draw(edges, 9, dtype=torch.float32, seed=2),
    ]

    def run() -> list[Tensor]:
        return derivatives(
            lambda x, g, sh: neighbour_sum(x, g, sh, plan, table, "cpu_kernel"),
            inputs,
            2,
        )

    before, first = torch.get_num_threads(), run()
    assert all(bool(part.isfinite().all()) and bool(part.any()) for part in first)
    try:
        for turn in range(100):
            torch.set_num_threads(1 + turn % 4)
            assert all(map(torch.equal, run(), first)), turn
    finally:
        torch.set_num_threads(before)


@kernel
def test_the_kernel_is_used_and_can_be_switched_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    real = cpu_kernel.call

    def count(name: str, struct: ctypes.Structure) -> None:
        calls.append(name)
        real(name, struct)

    monkeypatch.setattr(cpu_kernel, "call", count)
    x = torch.randn(4, 4, 2, 3)
    index = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    vec = torch.randn(4, 3)
    conv = CormorantConv(3, 3, lmax=1, lmax_in=1)
    conv(x, index, vec)
    assert sorted(calls) == [
        "cormorant_edge",
        "cormorant_frames",
        "cormorant_radial",
        "cormorant_sum_forward",
        "cormorant_vertex",
    ]
    calls.clear()
    conv.set_backend("portable")
    conv(x, index, vec)
    conv.set_backend("auto")
    with use_backend("portable"):
        conv(x, index, vec)
    monkeypatch.setenv(cpu_kernel.SWITCH, "0")
    conv(x, index, vec)
    assert not calls
    show_backends()
    assert "switched off by CORMORANT_CPU_KERNEL=0" in capsys.readouterr().out
    with pytest.raises(BackendError, match="unset CORMORANT_CPU_KERNEL"):
        CormorantConv(3, 3, backend="cpu_kernel")


def test_backends_that_do_not_exist_are_refused() -> None:
    with pytest.raises(BackendError, match="backend must be one of"), use_backend("x"):
        pass
    plan = build_plan(torch.zeros(2, 0, dtype=torch.long), 2, 2)
    args = (torch.zeros(2, 1, 1), torch.zeros(0, 1, 1), torch.zeros(0, 1), plan)
    with pytest.raises(BackendError, match="got 'fast'"):
        neighbour_sum(*args, PathTable(0, 0, 0), "fast")


@kernel
def test_degrees_beyond_the_kernel_take_the_portable_way() -> None:
    index, nodes = graph(3, 5)
    plan, table = build_plan(index, nodes, nodes), PathTable(7, 0, 7)
    x, g = draw(nodes, 1, 2, dtype=torch.float64), draw(5, 8, 2, dtype=torch.float64)
    args = (x, g, draw(5, 64, dtype=torch.float64), plan, table)
    for a, b in zip(
        neighbour_sum(*args), neighbour_sum(*args, "portable"), strict=True
    ):
        assert torch.equal(a, b)
    with pytest.raises(BackendError, match="up to degree 6"):
        neighbour_sum(*args, "cpu_kernel")


@pytest.mark.parametrize("content", [None, b"no library"])
def test_a_missing_or_broken_library_is_no_problem(
    content: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "_cpu_kernel.so"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(cpu_kernel, "FILE", file)
    monkeypatch.delenv(cpu_kernel.SWITCH, raising=False)
    cpu_kernel._load.cache_clear()
    try:
        expected = "not built" if content is None else "broken"
        assert cpu_kernel.problem().startswith(expected)
        parts = folded_square(torch.ones(1, 1, 1), PathTable(0, 0, 0, folded=True))
        assert torch.equal(parts[0], torch.ones(1, 1, 1, 1))
        with pytest.raises(BackendError, match=r"C\+\+ compiler"):
            cpu_kernel.library()
    finally:
        monkeypatch.undo()
        cpu_kernel._load.cache_clear()


@kernel
def test_the_default_device_does_not_matter(agree: Agree) -> None:
    index, nodes = graph(3, 5)
    table = PathTable(2, 1, 1)
    x = draw(nodes, 4, 2, dtype=torch.float64)
    g = draw(5, 3, 2, dtype=torch.float64)
    sh = draw(5, 9, dtype=torch.float64)
    found = []
    for device in ("meta", "cpu"):
        cpu_kernel.coefficients.cache_clear()
        with torch.device(device):
            plan = build_plan(index, nodes, nodes)
            found.append(neighbour_sum(x, g, sh, plan, table, "cpu_kernel"))
    agree(*found, 0.0)


@pytest.mark.skipif(not SETUP.is_file(), reason="not in a copy of the repository")
@pytest.mark.parametrize("variable", ["CXX", cpu_kernel.SWITCH])
def test_building_without_a_compiler_is_told_and_succeeds(
    variable: str, tmp_path: Path
) -> None:
    (tmp_path / "torch_cormorant" / "ops").mkdir(parents=True)
    shutil.copy(SETUP, tmp_path)
    value = shutil.which("false") if variable == "CXX" else "0"
    done = subprocess.run(
        [sys.executable, "setup.py", "kernel"],
        cwd=tmp_path,
        env={**os.environ, variable: str(value)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "built without the CPU kernel" in done.stderr
    assert not list(tmp_path.rglob("*.so"))


@kernel
def test_a_forked_process_can_use_it() -> None:
    """As workers of a data loader do, after the kernel has had threads."""
    code = (
        "import os, torch\n"
        "from torch_cormorant.ops import PathTable, folded_square\n"
        "x = torch.ones(4000, 16, 8)\n"
        "torch.set_num_threads(2)\n"
        "def value():\n"  # only the kernel: torch's own threads do not survive a fork
        "    table = PathTable(3, 3, 3, folded=True)\n"
        "    return folded_square(x, table, 'cpu_kernel')[2][3999, 1, 1, 7].item()\n"
        "first, child = value(), os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if value() == first else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
