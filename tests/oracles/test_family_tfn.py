"""TFN against tensor field networks made of e3nn's layers, and their parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracles.public_files import Golden, files
from torch_cormorant.networks import TFN
from torch_cormorant.nn import E3NNBasis, IrrepsLinear, NormActivation, moment_factor
from torch_cormorant.ops import ProductPaths, tensor_product
from torch_cormorant.so3 import flat_blocks, from_e3nn, spherical_harmonics

NETWORKS = files("tfn_", having="cfg_hidden")


@pytest.mark.parametrize("way", ["auto", "portable", "messages"])
@pytest.mark.parametrize("path", NETWORKS)
def test_results_and_gradients(path: Path, way: str) -> None:
    Golden(path).gradients(TFN, way)


@pytest.mark.parametrize("path", NETWORKS)
def test_weights_go_back_to_where_they_came_from(path: Path) -> None:
    Golden(path).returned(TFN)


def side_by_side(x: Tensor, conv: Any) -> tuple[Tensor, list[tuple[int, Any]]]:
    """Paths as blocks of their own, sorted by degree, and what they are made of."""
    paths = conv.paths
    order = sorted(paths.paths, key=lambda path: paths.out[path.out].ir.l)
    blocks = flat_blocks(x, paths.out)
    muls = [conv.irreps_in[path.first].mul for path in order]
    parts = [
        blocks[path.out][..., path.at : path.at + mul].flatten(1)
        for path, mul in zip(order, muls, strict=True)
    ]
    irreps = [(m, paths.out[p.out].ir) for m, p in zip(muls, order, strict=True)]
    return torch.cat(parts, dim=1), irreps


@pytest.mark.parametrize("path", NETWORKS)
def test_activations(path: Path) -> None:
    case = Golden(path)
    network = TFN.from_original(case.weights, case.config)
    z, index = case.tensor("charges"), case.tensor("edge_index")
    found = network.make_edges(case.pos, case.tensor("batch"))
    assert {*map(tuple, found.T.tolist())} == {*map(tuple, index.T.tolist())}
    vec = case.pos[index[1]] - case.pos[index[0]]
    geometry = network.geometry(index, vec, len(z))
    seen: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda _m, given, out, name=name: seen.update(
                {name: out, f"{name}<": given[0]}
            )
        )
        if name.startswith("convs.") and name.count(".") == 1:
            module.register_message_forward_hook(
                lambda _m, _given, out, name=name: seen.update({f"{name}.msg": out})
            )
    network.run_levels(z, geometry)
    sh = network.convs[0].irreps_sh
    sizes = [(2 * ir.l + 1) ** 0.5 for _, ir in sh for _ in range(ir.dim)]
    case.compare(
        "sh", geometry.sh(sh.lmax) * torch.tensor(sizes, dtype=torch.float64), sh
    )
    rows = geometry.to_edges(seen["basis"]) * network.basis.num_basis**0.5
    case.compare("radial", rows)
    for s, conv in enumerate(network.convs):
        o, own = f"layer{s}_", f"convs.{s}"
        weights = geometry.to_edges(seen[f"radials.{s}"])
        case.compare(f"{o}weights", weights / conv.path_factors(signs=True))
        case.compare(f"{o}msg", *side_by_side(seen[f"{own}.msg"], conv))
        case.compare(f"{o}agg", *side_by_side(seen[f"{own}.linear<"], conv))
        case.compare(f"{o}selfint", seen[own], conv.irreps_out)
        end = seen[f"acts.{s}"] if s < len(network.acts) else seen[own]
        case.compare(f"{o}out", end, conv.irreps_out)
    case.checked.add("out")
    assert not case.left()


@pytest.mark.parametrize("path", files("tfn_unit"))
def test_parts(path: Path) -> None:
    case = Golden(path)
    for name in [name for name in case.held if name.startswith("y_")]:
        a, b, l = map(int, name[2:].split("_"))
        x, v = case.tensor(f"x_{a}_{b}"), case.tensor(f"v_{a}_{b}")
        sh = spherical_harmonics(v, b)[:, b * b :] * (2 * b + 1) ** 0.5
        x = from_e3nn(x, f"{x.shape[1] // (2 * a + 1)}x{a}")
        mul = x.shape[1] // (2 * a + 1)
        paths = ProductPaths(f"{mul}x{a}", f"1x{b}", f"1x{l}")
        k = a + b - l
        weights = case.tensor(f"w_{name[2:]}") * (-1) ** (k * (k + 1) // 2)
        made = tensor_product(x, sh, "", "", paths=paths, weights=weights)
        case.compare(name, made, paths.out)
        case.checked |= {f"{word}_{a}_{b}" for word in ("x", "v")} | {f"w_{name[2:]}"}
    irreps = "4x0e + 3x1e + 2x2e"
    x = from_e3nn(case.tensor("norm_in"), irreps)
    act = NormActivation(irreps).double()
    act.bias.data.copy_(case.tensor("norm_bias"))
    case.compare("norm_out", act(x), irreps)
    plain = NormActivation(irreps, "sigmoid", bias=False)
    case.compare("norm_out_sigmoid", plain(x), irreps)
    irreps_in, irreps_out = "4x0e + 3x1e + 2x2e + 2x0e + 1x1e", "3x0e + 2x1e + 2x2e"
    linear = IrrepsLinear(irreps_in, irreps_out, bias=True).double()
    parts = case.tensor("lin_weight").split([12, 6, 4, 6, 2])
    merged = {"0e": (0, 3, 3), "1e": (1, 4, 2), "2e": (2, None, 2)}
    for ir, (first, second, copies) in merged.items():
        rows = [parts[k].view(-1, copies) for k in (first, second) if k is not None]
        whole = torch.cat(rows)
        linear.weights[ir].data.copy_(whole / len(whole) ** 0.5)
    linear.bias.data.copy_(case.tensor("lin_bias"))
    found = linear(from_e3nn(case.tensor("lin_in"), irreps_in))
    case.compare("lin_out", found, irreps_out)
    for name in case.held:
        word, _, rest = name.partition("_")
        if word == "basis" and rest != "r":
            shape, _, kind = rest.rpartition("_")
            basis = E3NNBasis(5, 2.5, shape=shape, ends=kind == "free")
            case.compare(name, basis(case.tensor("basis_r")))
        if name.startswith("second_moment_"):
            value = moment_factor(name.removeprefix("second_moment_"), "e3nn")
            case.compare(name, torch.tensor(value, dtype=torch.float64))
    given = {"norm_in", "norm_bias", "lin_in", "lin_weight", "lin_bias", "basis_r"}
    assert case.left() == given
