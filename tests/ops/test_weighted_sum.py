"""The weighted neighbour sum: the reference by products per edge, the kernel by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from torch_cormorant import EdgeGeometry
from torch_cormorant.errors import (
    BackendError,
    ConfigError,
    DtypeError,
    EdgeIndexError,
    ShapeError,
)
from torch_cormorant.irreps import Irreps
from torch_cormorant.ops import (
    GraphPlan,
    ProductPaths,
    build_plan,
    cpu_kernel,
    tensor_product,
    use_backend,
    weighted_kernel,
    weighted_linear,
    weighted_neighbour_sum,
)
from torch_cormorant.so3 import flat_blocks

Agree = Callable[..., None]
Tower = Callable[..., list[Tensor]]
INSTRUCTION_SETS = ("avx512", "avx2", "baseline")
BACKENDS = ("portable", "cpu_kernel")

kernel = pytest.mark.skipif(
    bool(cpu_kernel.problem()),
    reason=f"the CPU kernel is {cpu_kernel.problem()}: {cpu_kernel.remedy()}",
)


def paths_for(irreps: str, lmax: int, keep: str | None = None) -> ProductPaths:
    first = Irreps(irreps)
    harmonics = Irreps.harmonics(lmax, parity=first.has_parity)
    return ProductPaths(first, harmonics, keep or first)


PATHS = {
    "scalars": paths_for("5x0", 0),
    "uneven": paths_for("5x0e + 3x1o + 18x2e", 2),
    "parities": paths_for("2x0e + 3x0o + 17x1e + 1x1o + 4x2e + 2x2o", 2),
    "no_parity": paths_for("16x0 + 33x1 + 7x2 + 9x3", 3),
    "few": ProductPaths("4x1o + 3x0e", "0e + 1o", paths=[(1, 1, "1o"), (0, 1, "1e")]),
}


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype)


def inputs_of(
    paths: ProductPaths, nodes: int, edges: int, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    sizes = ((nodes, paths.first.dim), (edges, paths.second.dim))
    return [draw(*size, dtype=dtype) for size in (*sizes, (edges, paths.weight_numel))]


def needs(backend: str) -> None:
    if backend == "cpu_kernel" and cpu_kernel.problem():
        pytest.skip(f"the CPU kernel is {cpu_kernel.problem()}: {cpu_kernel.remedy()}")


def graph_of(nodes: int, edges: int, hub: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(nodes + edges)
    index = torch.randint(0, nodes, (2, edges), generator=generator)
    index[1, :hub] = 1
    return index


@pytest.mark.parametrize("name", list(PATHS))
def test_the_reference_is_a_product_for_every_edge(name: str) -> None:
    paths, index = PATHS[name], graph_of(6, 15)
    x, sh, w = inputs_of(paths, 6, 15)
    out = weighted_neighbour_sum(x, (index, sh), w, paths, "portable")
    messages = tensor_product(x[index[0]], sh, "", "", paths=paths, weights=w)
    total = torch.zeros(6, paths.out.dim, dtype=x.dtype)
    expected = flat_blocks(total.index_add_(0, index[1], messages), paths.out)
    for a, b in zip(out, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-13)


@kernel
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", list(PATHS))
def test_the_kernel_is_the_reference(
    name: str, dtype: torch.dtype, tower: Tower, agree: Agree
) -> None:
    """Values and two derivatives along random directions of everything."""
    paths = PATHS[name]
    index = graph_of(7, 90, hub=40)
    plan = build_plan(index, 7, 7)
    inputs = inputs_of(paths, 7, 90, dtype)
    found, expected = (
        tower(
            lambda x, sh, w: weighted_neighbour_sum(x, (plan, sh), w, paths, backend),  # noqa: B023
            inputs,
            2,
        )
        for backend in ("cpu_kernel", "portable")
    )
    agree(found, expected, 1e-13 if dtype == torch.float64 else 5e-6)


@kernel
def test_every_graph(
    graph: tuple[Tensor, int, int], tower: Tower, agree: Agree
) -> None:
    index, sources, targets = graph
    plan, paths = build_plan(index, sources, targets), PATHS["uneven"]
    x, sh, w = inputs_of(paths, sources, index.shape[1])
    found, expected = (
        tower(
            lambda *a: weighted_neighbour_sum(a[0], (plan, a[1]), a[2], paths, name),  # noqa: B023
            [x, sh, w],
            2,
        )
        for name in ("cpu_kernel", "portable")
    )
    agree(found, expected, 1e-12)


@kernel
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_every_instruction_set(name: str, tower: Tower, agree: Agree) -> None:
    library, paths = cpu_kernel.library(), PATHS["no_parity"]
    plan = build_plan(graph_of(7, 60), 7, 7)
    inputs = inputs_of(paths, 7, 60)

    def run() -> list[Tensor]:
        return tower(
            lambda x, sh, w: weighted_neighbour_sum(x, (plan, sh), w, paths), inputs, 2
        )

    expected = run()
    if not library.cormorant_use(name.encode()):
        pytest.skip(f"this processor has no {name}")
    try:
        found = run()
    finally:
        library.cormorant_use(b"")
    agree(found, expected, 1e-12)


@kernel
@pytest.mark.parametrize("shared", [False, True])
def test_results_do_not_depend_on_the_number_of_threads(shared: bool) -> None:
    """Bit by bit: a graph cut into many pieces, one receiver larger than a piece."""
    index, paths = graph_of(40, 3000, hub=1300), PATHS["no_parity"]
    index = torch.cat([index, index.flip(0)], dim=1)
    half = draw(3000, 3)
    vec = torch.cat([half, -half])
    plan = build_plan(index, 40, 40, edge_vec=vec if shared else None)
    x, sh, w = inputs_of(paths, 40, 6000, torch.float32)
    if plan.pairs is not None:
        w = w[: plan.pairs.edge.numel()]
    leaves = [part.requires_grad_() for part in (x, sh, w)]

    def run() -> list[Tensor]:
        out = weighted_neighbour_sum(x, (plan, sh), w, paths, "cpu_kernel")
        ones = [torch.ones_like(part, requires_grad=True) for part in out]
        first = torch.autograd.grad(out, leaves, ones, create_graph=True)
        total = sum(part.square().sum() for part in first)
        second = torch.autograd.grad(total, [*leaves, *ones])
        return [part.detach() for part in (*out, *first, *second)]

    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7, 1):
            torch.set_num_threads(threads)
            found.append(run())
    finally:
        torch.set_num_threads(before)
    assert (plan.pairs is not None) == shared
    assert all(all(map(torch.equal, other, found[0])) for other in found[1:])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["uneven", "few"])
def test_gradcheck_and_gradgradcheck(name: str, backend: str) -> None:
    needs(backend)
    paths, plan = PATHS[name], build_plan(graph_of(3, 5), 3, 3)
    inputs = [part.requires_grad_() for part in inputs_of(paths, 3, 5)]

    def function(x: Tensor, sh: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        return weighted_neighbour_sum(x, (plan, sh), w, paths, backend)

    assert gradcheck(function, inputs, fast_mode=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_three_derivatives(backend: str, tower: Tower, agree: Agree) -> None:
    """Third ones of the fused second pass, against products per edge."""
    needs(backend)
    paths = PATHS["few"]
    index = graph_of(3, 6)
    plan, inputs = build_plan(index, 3, 3), inputs_of(paths, 3, 6)

    def plain_way(x: Tensor, sh: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        messages = tensor_product(x[index[0]], sh, "", "", paths=paths, weights=w)
        return flat_blocks(
            x.new_zeros(3, paths.out.dim).index_add(0, index[1], messages), paths.out
        )

    found = tower(
        lambda x, sh, w: weighted_neighbour_sum(x, (plan, sh), w, paths, backend),
        inputs,
        3,
    )
    agree(found, tower(plain_way, inputs, 3), 1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("keep", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_some_of_the_cotangents(keep: tuple[int, ...], backend: str) -> None:
    """Gradients of single gradients: what is missing counts as zero."""
    needs(backend)
    paths, plan = PATHS["uneven"], build_plan(graph_of(4, 9), 4, 4)
    leaves = [part.requires_grad_() for part in inputs_of(paths, 4, 9)]
    x, sh, w = leaves
    out = weighted_neighbour_sum(x, (plan, sh), w, paths, backend)
    ones = [torch.ones_like(part, requires_grad=True) for part in out]
    first = torch.autograd.grad(out, leaves, ones, create_graph=True)
    some = torch.autograd.grad(out, [leaves[k] for k in keep], ones, create_graph=True)
    assert all(torch.equal(a, first[k]) for a, k in zip(some, keep, strict=True))
    found, expected = (
        torch.autograd.grad(
            torch.stack([part.sum() for part in parts]).sum(),
            [*leaves, *ones],
            materialize_grads=True,
            retain_graph=True,
        )
        for parts in (some, [first[k] * float(k in keep) for k in range(3)])
    )
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_pairs_stand_for_both_directions(
    backend: str, tower: Tower, agree: Agree
) -> None:
    needs(backend)
    pos, paths = draw(5, 3), PATHS["uneven"]
    index = torch.cartesian_prod(torch.arange(5), torch.arange(5)).t().contiguous()
    index = index[:, index[0] != index[1]]
    geometry = EdgeGeometry.from_pos(pos, index)
    assert geometry.plan.pairs is not None
    x, sh, w = inputs_of(paths, 5, 20)
    rows = w[:10]
    of_edge = geometry.plan.pairs.of_edge
    shared, single = (
        tower(
            lambda x, sh, w: weighted_neighbour_sum(
                x,
                (geometry.plan, sh),
                w[of_edge] if spread else w,  # noqa: B023
                paths,
                backend,
            ),
            [x, sh, rows],
            2,
        )
        for spread in (False, True)
    )
    agree(shared, single, 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pairs", [False, True])
def test_the_last_layer_inside(
    backend: str,
    pairs: bool,
    tower: Tower,
    agree: Agree,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with all weights given, for chunks of few edges, to the second derivative."""
    needs(backend)
    monkeypatch.setattr(weighted_linear, "CHUNK", 7)
    paths, index = PATHS["uneven"], graph_of(6, 20, hub=9)
    index = torch.cat([index, index.flip(0)], dim=1)
    half = draw(20, 3)
    vec = torch.cat([half, -half])
    plan = build_plan(index, 6, 6, edge_vec=vec if pairs else None)
    x, sh, _ = inputs_of(paths, 6, 40)
    hidden = draw(40 if plan.pairs is None else plan.pairs.edge.numel(), 3)
    given = [x, sh, hidden, draw(3, paths.weight_numel)]
    found, expected = (
        tower(
            lambda x, sh, h, v: weighted_neighbour_sum(
                x,
                (plan, sh),
                (h, v) if inside else h @ v,  # noqa: B023
                paths,
                backend,
            ),
            given,
            2,
        )
        for inside in (True, False)
    )
    agree(found, expected, 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("inside", [False, True])
def test_operands_that_depend_on_each_other(backend: str, inside: bool) -> None:
    """Three derivatives by one variable that everything is made of, twice over."""
    needs(backend)
    paths, index = PATHS["few"], graph_of(3, 6)
    plan = build_plan(index, 3, 3)
    x, sh, w = inputs_of(paths, 3, 6)
    last = draw(2, paths.weight_numel)

    def operands(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = (t * x).sin()
        second = (sh * t).cos() * first.sum()
        hidden = w[:, :2] * t * second.sum()
        return first, second, hidden if inside else hidden @ last

    def ours(t: Tensor) -> tuple[Tensor, ...]:
        first, second, h = operands(t)
        given = (h, last) if inside else h
        return weighted_neighbour_sum(first, (plan, second), given, paths, backend)

    def plain_way(t: Tensor) -> tuple[Tensor, ...]:
        first, second, h = operands(t)
        weights = h @ last if inside else h
        messages = tensor_product(
            first[index[0]], second, "", "", paths=paths, weights=weights
        )
        total = x.new_zeros(3, paths.out.dim).index_add(0, index[1], messages)
        return flat_blocks(total, paths.out)

    found = []
    for function in (ours, plain_way):
        t = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        value = torch.stack([part.sin().sum() for part in function(t)]).sum()
        for _ in range(3):
            (value,) = torch.autograd.grad(value, t, create_graph=True)
            found.append(value.detach())
    for a, b in zip(found[:3], found[3:], strict=True):
        assert torch.allclose(a, b, rtol=1e-11)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("backend", BACKENDS)
def test_transforms_of_torch_func(backend: str) -> None:
    needs(backend)
    paths, plan = PATHS["few"], build_plan(graph_of(3, 6), 3, 3)
    x, sh, w = inputs_of(paths, 3, 6)

    def energy(x: Tensor, sh: Tensor, w: Tensor) -> Tensor:
        out = weighted_neighbour_sum(x, (plan, sh), w, paths, backend)
        return torch.stack([part.square().sum() for part in out]).sum()

    leaves = [part.clone().requires_grad_() for part in (x, sh, w)]
    plain_grads = torch.autograd.grad(energy(*leaves), leaves)
    found = torch.func.grad(energy, argnums=(0, 1, 2))(x, sh, w)
    for a, b in zip(found, plain_grads, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    tangents = tuple(map(torch.ones_like, (x, sh, w)))
    _, slope = torch.func.jvp(energy, (x, sh, w), tangents)
    expected = torch.stack([part.sum() for part in plain_grads]).sum()
    assert torch.allclose(slope, expected, atol=1e-10)
    batched = torch.func.vmap(energy, in_dims=(0, None, None))(
        x.expand(2, -1, -1), sh, w
    )
    assert torch.allclose(batched, energy(x, sh, w).expand(2))


def test_one_graph_for_a_compiler() -> None:
    paths = PATHS["uneven"]
    pos = draw(6, 3)
    index = graph_of(6, 14)
    index = index[:, index[0] != index[1]]
    geometry = EdgeGeometry.from_pos(pos, index)
    x, _, w = inputs_of(paths, 6, index.shape[1])

    def energy(x: Tensor, w: Tensor) -> Tensor:
        out = weighted_neighbour_sum(x, geometry, w, paths)
        return torch.stack([part.square().sum() for part in out]).sum()

    torch._dynamo.reset()
    compiled = torch.compile(energy, fullgraph=True, backend="aot_eager")
    found = []
    for function in (compiled, energy):
        leaves = [part.clone().requires_grad_() for part in (x, w)]
        value = function(*leaves)
        found.append([value.detach(), *torch.autograd.grad(value, leaves)])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-13)
    torch._dynamo.reset()


def test_degrees_beyond_the_kernel_take_the_reference() -> None:
    paths = paths_for("2x0e + 2x4e", 4)
    index = graph_of(4, 6)
    x, sh, w = inputs_of(paths, 4, 6)
    found = weighted_neighbour_sum(x, (index, sh), w, paths)
    expected = weighted_neighbour_sum(x, (index, sh), w, paths, "portable")
    assert all(map(torch.equal, found, expected))
    if not cpu_kernel.problem():
        with pytest.raises(BackendError, match="up to degree 3"):
            weighted_neighbour_sum(x, (index, sh), w, paths, "cpu_kernel")


def test_layout_of_the_inputs_does_not_matter() -> None:
    paths, index = PATHS["uneven"], graph_of(6, 15)
    x, sh, w = inputs_of(paths, 6, 15)
    expected = weighted_neighbour_sum(x, (index, sh), w, paths)
    turned = [part.t().contiguous().t() for part in (x, sh, w)]
    found = weighted_neighbour_sum(turned[0], (index, turned[1]), turned[2], paths)
    assert all(map(torch.equal, found, expected))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    needs(request.param)
    with use_backend(request.param):
        yield request.param


def test_operands_that_do_not_fit(backend: str) -> None:  # noqa: ARG001
    paths, index = PATHS["uneven"], graph_of(6, 15)
    x, sh, w = inputs_of(paths, 6, 15)
    run = weighted_neighbour_sum
    with pytest.raises(ShapeError, match="x must have shape"):
        run(x[:, 1:], (index, sh), w, paths)
    with pytest.raises(ShapeError, match="sh must have shape"):
        run(x, (index, sh[:, :4]), w, paths)
    with pytest.raises(ShapeError, match="weights must have shape"):
        run(x, (index, sh), w[:3], paths)
    with pytest.raises(DtypeError, match="weights must be"):
        run(x, (index, sh), w.float(), paths)
    with pytest.raises(DtypeError, match="float32 or float64"):
        run(x.to(torch.complex128), (index, sh), w, paths)
    with pytest.raises(DtypeError, match="must be a tensor"):
        run(x, (index, sh), w.tolist(), paths)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="hidden"):
        run(x, (index, sh), (w[:, 0], w), paths)
    with pytest.raises(ShapeError, match="last must have shape"):
        run(x, (index, sh), (w[:, :2], w[:3]), paths)
    with pytest.raises(ShapeError, match="do not fit"):
        run(x, (index, sh), (w[:7, :2], w[:3]), paths)
    with pytest.raises(EdgeIndexError):
        run(x, (index + 1, sh), w, paths)
    wide = ProductPaths(paths.first, "2x0e + 1o + 2e", paths.first)
    with pytest.raises(ConfigError, match="harmonics"):
        run(x, (index, sh), w, wide)
    none = ProductPaths(paths.first, "0e + 1o + 2e", "0o")
    with pytest.raises(ConfigError, match="no path"):
        run(x, (index, sh), w, none)


@kernel
@pytest.mark.parametrize("name", ["rowptr", "csr_edge", "csr_source"])
def test_plans_that_name_missing_rows_are_refused(name: str) -> None:
    paths, index = PATHS["uneven"], graph_of(6, 15)
    plan = build_plan(index, 6, 6)
    x, sh, w = inputs_of(paths, 6, 15)
    broken: GraphPlan = dataclasses.replace(plan, **{name: getattr(plan, name) + 99})
    outs = [torch.empty(6, block.ir.dim, block.mul).double() for block in paths.out]
    problem = weighted_kernel.Problem(x, sh, w, broken, paths, outs)
    with pytest.raises(EdgeIndexError, match=name):
        cpu_kernel.call("cormorant_weighted_forward", problem.struct)
