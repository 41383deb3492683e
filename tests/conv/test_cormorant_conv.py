from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.nn import MessagePassing

from torch_cormorant import CormorantConv, EdgeGeometry
from torch_cormorant.errors import ArgumentError, ConfigError, DegreeError

Make = Callable[..., Any]


def seeded(*args: Any, **options: Any) -> CormorantConv:
    torch.manual_seed(1)
    return CormorantConv(*args, **options).double()


# ------------------------------------------------------------------ MessagePassing


def test_layer_is_a_message_passing_layer() -> None:
    conv = CormorantConv(3, 4)
    assert isinstance(conv, MessagePassing)
    assert conv.node_dim == 0
    assert conv.aggr == "sum"
    assert conv.flow == "source_to_target"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("decomposed_layers", 2),
        ("flow", "target_to_source"),
        ("aggr", "mean"),
        ("aggr", ["sum", "max"]),
        ("node_dim", -2),
    ],
)
def test_options_that_cannot_be_meant_are_refused(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=option):
        CormorantConv(3, 4, **{option: value})


def test_options_of_message_passing_are_passed_up() -> None:
    for name in ("sum", "add"):
        assert CormorantConv(3, 4, aggr=name, node_dim=0).aggr == "sum"
    with pytest.raises(TypeError):
        CormorantConv(3, 4, no_such_option=1)


def test_repr() -> None:
    assert repr(CormorantConv(3, 4)) == "CormorantConv(3, 4, lmax=3)"
    conv = CormorantConv(-1, 4, lmax=2, lmax_in=1)
    assert repr(conv) == "CormorantConv(-1, 4, lmax=2, lmax_in=1)"
    conv = CormorantConv(
        3, 4, paths="even", cutoff=5.0, cutoff_type="learn", aggr="sum"
    )
    assert repr(conv) == (
        "CormorantConv(3, 4, lmax=3, paths='even', cutoff=5.0, cutoff_type='learn')"
    )


def test_unknown_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match="'soft_radus'; did you mean 'soft_radius'"):
        CormorantConv(3, 4, soft_radus=2.0)
    with pytest.raises(TypeError, match="CormorantConv has no argument 'lmaxx'"):
        CormorantConv(3, 4, lmaxx=2)


def test_reset_parameters_is_seeded_and_changes_all_weights() -> None:
    conv = seeded(3, 4, lmax=2, lmax_in=2, edge_dim=2)
    weights = dict(conv.named_parameters())
    start = {name: value.detach().clone() for name, value in weights.items()}
    with torch.no_grad():
        for value in weights.values():
            value.add_(0.5)
    conv.reset_parameters()
    for name, value in weights.items():
        drawn = "weight" in name
        same = torch.allclose(value, start[name], rtol=1e-7, atol=0)
        assert same is not drawn, name
    torch.manual_seed(5)
    conv.reset_parameters()
    again = {name: value.detach().clone() for name, value in weights.items()}
    torch.manual_seed(5)
    conv.reset_parameters()
    assert all(torch.equal(value, again[name]) for name, value in weights.items())


@pytest.mark.parametrize(
    "options",
    [
        {"in_channels": 0},
        {"in_channels": -2},
        {"in_channels": 3.0},
        {"out_channels": 0},
        {"out_channels": -1},
        {"lmax": -1},
        {"lmax": 9},
        {"lmax": 1.5},
        {"lmax_in": -1},
        {"lmax_sh": 9},
        {"edge_state_lmax": -1},
        {"paths": "odd"},
        {"radial": "none"},
        {"radial": "bessel"},
        {"radial": "gaussian"},
        {"radial": "bessel", "cutoff": -1.0},
        {"radial": "bessel", "cutoff": 5.0, "num_basis": 3},
        {"radial": "bessel", "cutoff": 5.0, "num_basis": 0},
        {"cutoff": 0.0},
        {"cutoff": float("nan")},
        {"cutoff": float("inf")},
        {"envelope": True},
        {"basis_set": (-1, 2)},
        {"cutoff_type": "none"},
        {"cutoff_type": ("hard",)},
        {"harmonics": "complex"},
        {"init": "zeros"},
        {"backend": "gpu"},
        {"lmax": 4, "lmax_in": 0, "lmax_sh": 2},
        {"lmax": 3, "lmax_in": 1, "lmax_sh": 0},
        {"edge_dim": -1},
        {"edge_state_channels": -1},
    ],
    ids=str,
)
def test_contradicting_arguments_are_refused(options: dict[str, Any]) -> None:
    arguments = {"in_channels": 3, "out_channels": 4, **options}
    with pytest.raises((ConfigError, DegreeError)) as caught:
        CormorantConv(**arguments)
    assert len(str(caught.value)) > 20


def test_unknown_backend_is_refused_later_too() -> None:
    conv = CormorantConv(3, 4)
    with pytest.raises(ConfigError, match="triton2"):
        conv.set_backend("triton2")
    assert conv.backend == "auto"


# ------------------------------------------------------------------ forms of input


# torch says so of every CSR tensor.
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
def test_all_forms_of_edges_give_the_same(example: Make) -> None:
    sample = example()
    conv, x = seeded(3, 4, lmax=2), sample.features(3)
    index, nodes = sample.edge_index, len(sample.pos)
    expected = conv(x, index, sample.edge_vec)
    assert torch.equal(conv(x, index, pos=sample.pos), expected)
    geometry = EdgeGeometry.from_pos(sample.pos, index)
    assert torch.equal(conv(x, geometry), expected)
    given = EdgeIndex(index, sparse_size=(nodes, nodes), sort_order=None)
    assert torch.equal(conv(x, given, sample.edge_vec), expected)
    values = torch.ones(sample.num_edges)
    with torch.sparse.check_sparse_tensor_invariants(enable=True):
        adjacency = torch.sparse_coo_tensor(index, values, (nodes, nodes)).t()
        for form in (adjacency.coalesce(), adjacency.to_sparse_csr()):
            # sparse tensors are sorted by row, here the target, as our example is
            out = conv(x, form, pos=sample.pos)
            torch.testing.assert_close(out, expected, rtol=1e-13, atol=1e-13)


def test_sparse_input_is_the_transposed_adjacency(example: Make) -> None:
    sample = example(nodes=4)
    conv, x = seeded(3, 4, lmax=2), sample.features(3)
    index = torch.tensor([[0, 1, 2], [1, 2, 3]])  # no edge has its reverse
    matrix = torch.zeros(4, 4)
    matrix[index[1], index[0]] = 1
    expected = conv(x, index, pos=sample.pos)
    found = conv(x, matrix.to_sparse(), pos=sample.pos)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    other = conv(x, matrix.t().to_sparse(), pos=sample.pos)
    assert not torch.allclose(other, expected)


def test_scalars_may_come_in_both_shapes(example: Make) -> None:
    sample = example()
    conv, x = seeded(3, 4, lmax=2), sample.features(3)
    planes = torch.stack([x, torch.zeros_like(x)], dim=1).unsqueeze(1)
    expected = conv(x, sample.edge_index, sample.edge_vec)
    assert torch.equal(conv(planes, sample.edge_index, sample.edge_vec), expected)


def test_positions_of_bipartite_graphs(example: Make) -> None:
    sample = example()
    conv = seeded(3, 4, lmax=2)
    index = torch.tensor([[0, 6, 2], [1, 1, 0]])
    x, pos = (sample.features(3), sample.randn(2, 3)), (sample.pos, sample.randn(2, 3))
    vec = pos[1][index[1]] - pos[0][index[0]]
    out = conv(x, index, pos=pos)
    assert out.shape == (2, 9, 2, 4)
    assert torch.equal(out, conv(x, index, vec))
    assert torch.equal(out, conv(x, EdgeGeometry(index, vec, (7, 2))))


@pytest.mark.parametrize("complex_", [True, False])
def test_edge_state_has_its_own_shape(complex_: bool, example: Make) -> None:
    sample = example()
    planes = 2 if complex_ else 1
    first = seeded(3, 5, lmax=2, lmax_sh=3, complex=complex_)
    second = seeded(
        5, 4, lmax=2, lmax_in=2, complex=complex_, edge_state_channels=3,
        edge_state_lmax=3,
    )  # fmt: skip
    x = sample.features(3)
    y, g = first(x, sample.edge_index, pos=sample.pos, return_edge_state=True)
    assert g.shape == (sample.num_edges, 4, planes, 3)
    out = second(y, sample.edge_index, pos=sample.pos, edge_state=g)
    without = second(y, sample.edge_index, pos=sample.pos)
    assert not torch.allclose(out, without)
    zero = second(y, sample.edge_index, pos=sample.pos, edge_state=0 * g)
    torch.testing.assert_close(zero, without, rtol=1e-13, atol=1e-13)


def test_edge_state_and_edge_attr_are_directed(example: Make) -> None:
    """A symmetric graph may carry different values on an edge and its reverse."""
    sample = example()
    conv, x = seeded(3, 4, lmax=2, edge_dim=1), sample.features(3)
    source, target = sample.edge_index
    up = (source < target).double()[:, None]
    args = (x, sample.edge_index, sample.edge_vec)
    assert not torch.allclose(conv(*args, up), conv(*args, 1 - up))


def test_edge_attr_changes_the_result_linearly_in_g(example: Make) -> None:
    sample = example()
    conv, x = seeded(3, 4, edge_dim=2), sample.features(3)
    attr = sample.randn(sample.num_edges, 2)
    rows = [
        conv(x, sample.edge_index, sample.edge_vec, k * attr, return_edge_state=True)[1]
        for k in (0, 1, 2)
    ]
    torch.testing.assert_close(rows[2] - rows[1], rows[1] - rows[0])
    assert bool((rows[1] - rows[0]).abs().max() > 0.01)


# ------------------------------------------------------------------ lazy layers

LAZY: list[dict[str, Any]] = [
    {},
    {"lmax_in": 2},
    {"lmax_in": 1, "complex": False, "edge_dim": 2},
    {"edge_state_channels": 4, "paths": "even"},
]


@pytest.mark.parametrize("options", LAZY, ids=str)
def test_lazy_layer_equals_an_eager_one(options: dict[str, Any], example: Make) -> None:
    sample = example()
    eager = seeded(3, 4, lmax=2, **options)
    lazy = seeded(-1, 4, lmax=2, **options)
    x = sample.features(3, eager.lmax_in, eager.planes)
    attr = sample.randn(sample.num_edges, 2) if "edge_dim" in options else None
    torch.manual_seed(1)
    lazy(x, sample.edge_index, sample.edge_vec, attr)
    assert lazy.in_channels == 3
    assert repr(lazy) == repr(eager)
    shapes = {name: value.shape for name, value in lazy.state_dict().items()}
    assert shapes == {name: v.shape for name, v in eager.state_dict().items()}
    lazy.load_state_dict(eager.state_dict())
    args = (sample.edge_index, sample.edge_vec, attr)
    assert torch.equal(lazy(x, *args), eager(x, *args))


def test_lazy_layer_starts_from_the_same_random_numbers(example: Make) -> None:
    sample = example()
    torch.manual_seed(4)
    eager = CormorantConv(3, 4, lmax=2)
    lazy = CormorantConv(-1, 4, lmax=2)
    torch.manual_seed(4)
    lazy(sample.features(3).float(), sample.edge_index, sample.edge_vec.float())
    for name, value in eager.state_dict().items():
        assert torch.equal(lazy.state_dict()[name], value), name


@pytest.mark.parametrize("options", LAZY, ids=str)
def test_state_dict_loads_into_a_lazy_layer(
    options: dict[str, Any], example: Make
) -> None:
    sample = example()
    eager = seeded(3, 4, lmax=2, **options)
    lazy = CormorantConv(-1, 4, lmax=2, **options).double()
    lazy.load_state_dict(eager.state_dict())
    x = sample.features(3, eager.lmax_in, eager.planes)
    attr = sample.randn(sample.num_edges, 2) if "edge_dim" in options else None
    args = (x, sample.edge_index, sample.edge_vec, attr)
    assert torch.equal(lazy(*args), eager(*args))
    assert lazy.in_channels == 3


def test_lazy_layer_can_be_copied_before_use(example: Make) -> None:
    sample = example()
    lazy = CormorantConv(-1, 4, lmax=2).double()
    twin = copy.deepcopy(lazy)
    args = (sample.features(3), sample.edge_index, sample.edge_vec)
    twin(*args)
    assert twin.in_channels == 3
    assert lazy.in_channels == -1
    lazy(*args)
    assert lazy.in_channels == 3


# ------------------------------------------------------------------ hooks and masks


@pytest.mark.parametrize(
    "kind", ["message_forward", "message_forward_pre", "aggregate_forward"]
)
def test_hooks_are_called_and_the_result_is_the_same(kind: str, example: Make) -> None:
    sample = example()
    conv = seeded(3, 4, lmax=2, lmax_in=1)
    args = (sample.features(3, 1), sample.edge_index, sample.edge_vec)
    expected, calls = conv(*args), []
    handle = getattr(conv, f"register_{kind}_hook")(lambda *given: calls.append(given))
    found = conv(*args)
    assert len(calls) == 1
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    handle.remove()
    assert torch.equal(conv(*args), expected)
    assert len(calls) == 1


def test_message_hook_may_change_messages(example: Make) -> None:
    sample = example()
    conv = seeded(3, 4, lmax=2)
    args = (sample.features(3), sample.edge_index, sample.edge_vec)
    expected = conv(args[0], args[1][:, :0], args[2][:0])
    conv.register_message_forward_hook(lambda *given: 0 * given[2])
    torch.testing.assert_close(conv(*args), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("backend", ["portable", "reference"])
def test_edge_mask_of_an_explainer_scales_messages(backend: str, example: Make) -> None:
    sample = example()
    conv = seeded(3, 4, lmax=2, lmax_in=2)
    conv.set_backend(backend)
    args = (sample.features(3, 2), sample.edge_index, sample.edge_vec)
    expected = conv(*args)
    mask = torch.ones(sample.num_edges, dtype=torch.float64, requires_grad=True)
    conv.explain = True
    conv._edge_mask, conv._apply_sigmoid = mask, False
    conv._loop_mask = torch.ones(sample.num_edges, dtype=torch.bool)
    found = conv(*args)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (slope,) = torch.autograd.grad(found.square().sum(), mask)
    assert bool((slope != 0).all())
    keep = torch.arange(sample.num_edges) != 3
    conv._edge_mask = keep.double()
    without = conv(*args)
    conv.explain = False
    index, vec = sample.edge_index[:, keep], sample.edge_vec[keep]
    torch.testing.assert_close(
        without, conv(args[0], index, vec), rtol=1e-12, atol=1e-12
    )
