"""Gates of N-body networks against sums over pairs that are written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.conv import NBodyConv
from torch_cormorant.errors import ConfigError, DtypeError, EdgeIndexError, ShapeError
from torch_cormorant.graph import composition_scheme
from torch_cormorant.irreps import Irrep, Irreps
from torch_cormorant.ops import EdgeGeometry, NBodyPaths, kappa
from torch_cormorant.so3 import flat_blocks, random_rotation

IRREPS = "3x0 + 3x1"
PARTS = ((0, 1, 2), (2, 3, 4, 5), (6,))
CHAIN = {"(((0,0,0),v,1),v,1)", "(((1,1,0),v,1),v,1)"}
LAYERS: dict[str, dict[str, Any]] = {
    "single": {"gate": "single"},
    "pairs": {"gate": "pairs"},
    "chain": {"gate": "pairs", "form": "chain", "product": "channelwise"},
    "relative": {"gate": "relative"},
    "channelwise": {"gate": "relative", "product": "channelwise", "own": True},
    "bounded": {"gate": "pairs", "radial": "bounded", "own": True},
    "learned": {"gate": "relative", "radial": "bessel_basis", "cutoff": 3.0},
    "learned_sums": {"gate": "single", "radial": "gaussian_basis", "cutoff": 3.0},
    "complex": {"gate": "relative", "complex": True, "own": True},
    "parity": {"gate": "relative"},
}


class Given:
    """A gate with random weights, and overlapping parts."""

    def __init__(self, name: str, **options: Any) -> None:
        self.irreps = Irreps("3x0e + 3x1o" if name == "parity" else IRREPS)
        self.out = self.irreps
        self.conv = NBodyConv(self.irreps, self.out, **LAYERS[name], **options).double()
        for weight in self.conv.parameters():
            nn.init.normal_(weight, std=0.5)
        self.x = torch.randn(7, self.conv.rows_in.dim, dtype=torch.float64)
        self.pos = torch.randn(7, 3, dtype=torch.float64)
        self.scheme = composition_scheme(self.pos, fragments=PARTS, root=False)
        self.nodes = self.scheme.positions(self.pos)[0]
        self.index = self.scheme.levels[0].edge_index

    def __call__(self, **changes: Any) -> Tensor:
        own = {"x": self.x, "edge_index": self.index, "pos": (self.pos, self.nodes)}
        result: Tensor = self.conv(**{**own, **changes})
        return result


@pytest.fixture(params=list(LAYERS))
def given(request: pytest.FixtureRequest) -> Given:
    return Given(request.param)


def couple(a: Tensor, l1: int, b: Tensor, l2: int, l: int) -> Tensor:
    """``[2 l1 + 1, C]`` and ``[2 l2 + 1, D]`` to ``[2l + 1, C, D]``."""
    table = clebsch_gordan(l1, l2, l)
    return torch.einsum("ac,bd,abm->mcd", a, b, table)


def test_relative_gate_is_the_sum_over_pairs() -> None:
    """Fragments in the order of weights: radial functions, blocks, labels, channels."""
    given = Given("relative", fragments="printed")
    x, v = flat_blocks(given.x, IRREPS), given.pos[:, [1, 2, 0]]
    out = flat_blocks(given(), IRREPS)
    triples = {0: [(0, 1, 1), (1, 0, 1), (1, 1, 1)]}
    triples[1] = [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1), (1, 1, 2)]
    for node, part in enumerate(PARTS):
        pairs = [(i, j) for i in part for j in part if i != j]
        for l in (0, 1):
            rows = torch.zeros(2 * l + 1, 4 * 9 * len(triples[l])).double()
            for i, j in pairs:
                r = (v[i] - v[j])[:, None]
                own = [
                    couple(couple(x[a][i], a, x[b][j], b, k).flatten(1), k, r, 1, l)
                    for a, b, k in triples[l]
                ]
                every = torch.cat([f.squeeze(-1) for f in own], dim=1)
                rows += torch.cat([every * r.norm() ** -p for p in range(4)], dim=1)
            expected = rows @ given.conv.weights[str(l)]
            assert torch.allclose(out[l][node], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["sums", "chain"])
def test_pairs_of_scalars_are_sums_of_dot_products(form: str) -> None:
    """Eq. (11) between scalars, written out: -v.v' / sqrt(3) of all pairs."""
    conv = NBodyConv("3x0", "2x0", "pairs", form=form, fragments="printed").double()
    given = Given("pairs")
    x = given.x[:, :3]
    v = given.pos[given.index[0]] - given.nodes[given.index[1]]
    found = conv(x, given.index, pos=(given.pos, given.nodes))
    for node, part in enumerate(PARTS[:2]):
        own = v[given.index[1] == node]
        rows = []
        for p in range(4):
            w = own.norm(dim=1) ** -p
            dots = -(own @ own.T) * w[:, None] * w / 3**0.5
            psi = x[list(part)]
            rows.append((psi.T @ dots @ psi).flatten())
        expected = torch.cat(rows) @ conv.weights["0"]
        assert torch.allclose(found[node], expected, rtol=1e-11)


def test_both_forms_of_the_product_span_the_same() -> None:
    """Distinct fragments of both: equally many directions, over random inputs."""
    rows: dict[str, list[Tensor]] = {"sums": [], "chain": []}
    for k in range(120):
        for form, found in rows.items():
            torch.manual_seed(k)
            given = Given("pairs", form=form, num_radial=1)
            seen: Any = {}

            def keep(self: Any, data: Any, seen: Any = seen) -> Any:
                seen.update(NBodyConv.fragments(self, data))
                return seen

            given.conv.fragments = keep.__get__(given.conv)  # type: ignore[method-assign]
            given()
            found.append(seen[Irrep(0)][0])
    a, b = (torch.cat(found) for found in rows.values())
    ranks = [int(torch.linalg.matrix_rank(m)) for m in (a, b, torch.cat([a, b], 1))]
    assert ranks[0] == ranks[1] == ranks[2] == a.shape[1] <= b.shape[1]


def test_structural_zeros_have_no_weights() -> None:
    """Sums over pairs are symmetric: what changes sign with the children vanishes."""
    paths = NBodyPaths("2x0 + 2x1", "0 + 1", "pairs")
    assert set(paths.zeros) == {
        "((0,v,1),(0,v,1),1)",
        "((1,v,1),(1,v,1),1)",
        "((1,v,2),(1,v,2),1)",
    }
    paths = NBodyPaths("2x0 + 2x1", "0 + 1", "pairs", form="chain")
    assert set(paths.zeros) == CHAIN
    paths = NBodyPaths("2x0 + 2x1", "0 + 1", "relative")
    assert set(paths.zeros) == {"((0,0,0),v,1)", "((1,1,0),v,1)", "((1,1,2),v,1)"}
    # equal channels of scalars make no relative fragments at all
    empty = NBodyPaths("4x0", "0 + 1", "relative", product="channelwise")
    assert set(empty.counts().values()) == {0}
    assert not NBodyConv("4x0", "2x1", product="channelwise").weights
    every = NBodyPaths("4x0", "0 + 1", "relative")
    assert sum(every.counts().values()) == 6  # pairs of different channels


def test_counts_are_those_of_kappa() -> None:
    for lmax in (1, 2, 3, 4):
        children = Irreps.harmonics(lmax, parity=False)
        paths = NBodyPaths(children, Irreps.harmonics(lmax + 1, parity=False), "single")
        found = [number for _, number in sorted(paths.counts().items())]
        assert found == kappa([1] * (lmax + 1), [0, 1])
    assert kappa([1, 1, 1, 1], [0, 1]) == [1, 3, 3, 2, 1]  # printed: (1, 3, 2, 2, 1)


def test_results_turn_with_their_input(
    given: Given, turned: Callable[..., Tensor]
) -> None:
    out, R = given(), random_rotation()
    planes = (given.conv.rows_in, given.conv.rows_out)
    for turn in [R, -R] if given.irreps.has_parity else [R]:
        x = turned(given.x, planes[0], turn)
        pos = (given.pos @ turn.T + 1, given.nodes @ turn.T + 1)
        error = (given(x=x, pos=pos) - turned(out, planes[1], turn)).abs().max()
        assert error < 1e-12 * max(1.0, float(out.detach().abs().max()))


def test_order_of_children_and_of_edges(given: Given) -> None:
    out = given()
    order = torch.randperm(given.index.shape[1])
    assert torch.allclose(given(edge_index=given.index[:, order]), out, rtol=1e-11)
    moved = torch.randperm(7)
    place = torch.argsort(moved)
    index = torch.stack([place[given.index[0]], given.index[1]])
    pos = (given.pos[moved], given.nodes)
    found = given(x=given.x[moved], edge_index=index, pos=pos)
    assert torch.allclose(found, out, rtol=1e-11)


def test_derivatives(given: Given) -> None:
    pos, x = given.pos.clone().requires_grad_(), given.x.clone().requires_grad_()

    def total(x: Tensor, pos: Tensor) -> Tensor:
        places = (pos, given.scheme.positions(pos)[0])
        return given(x=x, pos=places).square().sum()

    assert torch.autograd.gradcheck(total, (x, pos), fast_mode=True, atol=1e-4)
    (slope,) = torch.autograd.grad(total(x, pos), pos, create_graph=True)
    slope.square().sum().backward()
    assert all(weight.grad is not None for weight in given.conv.parameters())


def test_a_geometry_and_vectors_may_be_given(given: Given) -> None:
    vec = given.nodes[given.index[1]] - given.pos[given.index[0]]
    geometry = EdgeGeometry(given.index, vec, (7, len(PARTS)), validate=False)
    assert torch.equal(given(edge_index=geometry, pos=None), given())
    pair = (given.x, torch.zeros(len(PARTS), 1))
    assert torch.equal(given(x=pair, edge_vec=vec, pos=None), given())


def test_text_makes_the_same_layer(given: Given) -> None:
    text = repr(given.conv)
    twin = eval(text).double()  # noqa: S307
    assert repr(twin) == text
    twin.load_state_dict(given.conv.state_dict())
    assert torch.equal(
        twin(given.x, given.index, pos=(given.pos, given.nodes)), given()
    )
    before = given()
    given.conv.reset_parameters()
    assert not torch.allclose(given(), before)


def test_parts_of_very_different_sizes() -> None:
    """One part of everything among many of two: groups of their own, equal results."""
    given = Given("relative")
    x = torch.randn(60, 12, dtype=torch.float64)
    pos = torch.randn(60, 3, dtype=torch.float64)
    parts = [[2 * k, 2 * k + 1] for k in range(30)] + [list(range(60))]
    scheme = composition_scheme(pos, fragments=parts, root=False)
    nodes, index = scheme.positions(pos)[0], scheme.levels[0].edge_index
    out = given.conv(x, index, pos=(pos, nodes))
    for k in (0, 17, 30):
        mine = index[1] == k
        alone = torch.stack([index[0][mine], torch.zeros_like(index[1][mine])])
        found = given.conv(x, alone, pos=(pos, nodes[k : k + 1]))
        assert torch.allclose(found[0], out[k], rtol=1e-10)


def test_children_beyond_the_cutoff_count_nothing() -> None:
    given = Given("learned")
    out, far = given(), given.pos.clone()
    far[0] += 50
    nodes = given.nodes
    index = given.index
    kept = index[:, index[0] != 0]
    found = given(pos=(far, nodes))
    assert torch.allclose(found, given(edge_index=kept, pos=(far, nodes)))
    assert not torch.allclose(found, out)


def test_nodes_without_children_are_zero() -> None:
    for name in LAYERS:
        given = Given(name)
        none = torch.zeros(2, 0, dtype=torch.int64)
        assert not given(edge_index=none).any()
        assert given(edge_index=none).shape == (len(PARTS), given.conv.rows_out.dim)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"x": torch.ones(7, 5, dtype=torch.float64)}, ShapeError, "rows of 12"),
        ({"x": torch.ones(7, 12)}, DtypeError, "x is torch.float32"),
        ({"pos": None}, ConfigError, "exactly one of edge_vec"),
        ({"edge_index": torch.tensor([[0], [9]])}, EdgeIndexError, "target node 9"),
        ({"pos": torch.ones(6, 3).double()}, ShapeError, "pos must have shape"),
    ],
)
def test_wrong_inputs_are_named(
    changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Given("relative")(**changes)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"gate": "triples"}, "gate must be one of"),
        ({"product": "channelwise", "irreps_in": "2x0 + 3x1"}, "same number of chan"),
        ({"radial": "bessel_basis"}, "need a cutoff"),
        ({"avg_num_children": 0}, "must be positive"),
        ({"num_radial": 0}, "count must be at least 1"),
        ({"aggr": "mean"}, "NBodyConv sums over neighbours"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], match: str) -> None:
    irreps = options.pop("irreps_in", IRREPS)
    with pytest.raises(ConfigError, match=match):
        NBodyConv(irreps, IRREPS, **options)
