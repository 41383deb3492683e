"""Golden numbers of tensor field networks: layers, output, gradients; single parts."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tests.oracles.family import Golden, close, files, sign_3j
from torch_cormorant import EdgeGeometry, spherical_harmonics
from torch_cormorant.conv import TensorFieldConv
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn import IrrepsLinear, NormActivation
from torch_cormorant.ops import ProductPaths, tensor_product
from torch_cormorant.so3 import flat_blocks

SPECIES = [1, 6, 7, 8, 9]


def swapped(vec: Tensor) -> Tensor:
    """With vectors (z, x, y) our features are theirs, number by number."""
    return vec[:, [2, 0, 1]]


def turned(x: Tensor, irreps: object, *, back: bool = False) -> Tensor:
    """From copies inside to copies outside; back: the other way round."""
    irreps = Irreps(irreps)
    parts = [
        x[:, at].unflatten(1, (mul, ir.dim) if back else (ir.dim, mul)).mT.flatten(1)
        for at, (mul, ir) in zip(irreps.slices, irreps, strict=True)
    ]
    return torch.cat(parts, dim=1)


def layer_weights(golden: Golden, s: int, conv: TensorFieldConv, w: dict) -> dict:
    """Weights of our layer from theirs."""
    W0, W1 = w[f"w.{s}.fc.layer0.weight"], w[f"w.{s}.fc.layer1.weight"]
    factors = []
    for path, size in zip(conv.sum_paths.paths, conv.sum_paths.sizes, strict=True):
        l1, l2, l = conv.sum_paths.degrees(path)
        value = sign_3j(l1, l2, l) * sqrt(2 * l2 + 1)
        factors.append(torch.full((size,), value, dtype=torch.float64))
    scale = golden.number("cfg_c_silu") / sqrt(W1.shape[0])
    found = {
        "radial.weights.0": W0 / sqrt(W0.shape[0]),
        "radial.weights.1": W1 * torch.cat(factors) * scale,
        "linear.bias": w[f"w.{s}.lin.bias"],
    }
    middle, flat, start = conv.sum_paths.out, w[f"w.{s}.lin.weight"], 0
    for k, (i, o) in enumerate(conv.linear.links):
        shape = (middle[i].mul, conv.out_irreps[o].mul)
        count = shape[0] * shape[1]
        W = flat[start : start + count].reshape(shape)
        found[f"linear.weights.{k}"] = W / sqrt(shape[0])
        start += count
    assert start == flat.numel()
    return found


@pytest.mark.parametrize("path", files("tfn"))
def test_layers_and_gradients(path: Path) -> None:
    golden = Golden(path)
    if "cfg_num_layers" not in golden:
        pytest.skip("a file of single parts")
    names = [name for name in golden.arrays if name.startswith("w.")]
    w = {name: golden[name].requires_grad_() for name in names}
    pos, index = golden["pos"].requires_grad_(), golden["edge_index"]
    geometry = EdgeGeometry(index, swapped(pos[index[1]] - pos[index[0]]), len(pos))
    radial = bumps(geometry.edge_length, golden)
    close(radial, golden["radial"], "radial")
    x = (golden["charges"][:, None] == torch.tensor(SPECIES)).double()
    irreps, layers = Irreps("5x0e"), int(golden.number("cfg_num_layers"))
    for s in range(layers):
        last = s == layers - 1
        out = Irreps("3x0e" if last else golden.text("cfg_hidden"))
        sh = Irreps(golden.text("cfg_sh"))
        conv = TensorFieldConv(
            irreps,
            out,
            harmonics=sh,
            edge_dim=radial.shape[1],
            hidden=[int(golden.number("cfg_hidden_radial"))],
            avg_num_neighbors=golden.number("cfg_neighbours"),
        ).double()
        weights = layer_weights(golden, s, conv, w)
        x = functional_call(conv, weights, (x, geometry, None, radial))
        close(turned(x, out), golden[f"layer{s}_selfint"], f"layer{s}_selfint")
        if not last:
            act = NormActivation(out).double()
            x = functional_call(act, {"bias": w[f"w.{s}.act.biases"]}, (x,))
        close(turned(x, out), golden[f"layer{s}_out"], f"layer{s}_out")
        irreps = out
    batch = golden["batch"]
    total = x.new_zeros(int(batch.max()) + 1, 3).index_add(0, batch, x)
    close(total, golden["out"], "out")
    loss = (total * golden["cotangent"]).sum()
    grads = torch.autograd.grad(loss, [pos, *w.values()], materialize_grads=True)
    close(grads[0], golden["grad_pos"], "grad_pos")
    for name, grad in zip(names, grads[1:], strict=True):
        if f"grad{name}" in golden:
            close(grad, golden[f"grad{name}"], name)


def bumps(r: Tensor, golden: Golden) -> Tensor:
    count, cutoff = int(golden.number("cfg_num_basis")), golden.number("cfg_cutoff")
    step = cutoff / (count + 1)
    centres = step * torch.arange(1, count + 1, dtype=r.dtype)
    return torch.exp(-(((r.unsqueeze(1) - centres) / step) ** 2)) / 1.12 * sqrt(count)


@pytest.mark.parametrize("path", files("tfn"))
def test_single_parts(path: Path) -> None:
    golden = Golden(path)
    if "norm_in" not in golden:
        pytest.skip("a file of whole networks")
    for name in golden.arrays:
        if name.startswith("y_"):
            l1, l2, l = map(int, name.split("_")[1:])
            paths = ProductPaths(f"2x{l1}", f"1x{l2}", paths=[(0, 0, str(l))])
            sh = spherical_harmonics(swapped(golden[f"v_{l1}_{l2}"]), max(l2, 1))
            y = sh[:, l2 * l2 : (l2 + 1) ** 2] * sqrt(2 * l2 + 1) * sign_3j(l1, l2, l)
            x = golden[f"x_{l1}_{l2}"]
            x = turned(x, paths.first, back=True)
            w = golden[name.replace("y", "w", 1)]
            out = tensor_product(x, y, "", "", paths=paths, weights=w)
            close(turned(out, paths.out), golden[name], name)
    irreps = "4x0e + 3x1e + 2x2e"
    x = turned(golden["norm_in"], irreps, back=True)
    act = NormActivation(irreps).double()
    out = functional_call(act, {"bias": golden["norm_bias"]}, (x,))
    close(turned(out, irreps), golden["norm_out"], "norm_out")
    plain = NormActivation(irreps, "sigmoid", bias=False)(x)
    close(turned(plain, irreps), golden["norm_out_sigmoid"], "norm_out_sigmoid")
    first, out_irreps = "4x0e + 3x1e + 2x2e + 2x0e + 1x1e", "3x0e + 2x1e + 2x2e"
    linear = IrrepsLinear(first, out_irreps, bias=True).double()
    start, weights, flat = 0, {"bias": golden["lin_bias"]}, golden["lin_weight"]
    fan_in = {0: 6, 1: 4, 2: 2}
    for i, o in sorted(linear.links):
        shape = (linear.in_irreps[i].mul, linear.out_irreps[o].mul)
        part = flat[start : start + shape[0] * shape[1]].reshape(shape)
        place = linear.links.index((i, o))
        l = linear.out_irreps[o].ir.l
        weights[f"weights.{place}"] = part / sqrt(fan_in[l])
        start += part.numel()
    out = functional_call(
        linear, weights, (turned(golden["lin_in"], first, back=True),)
    )
    close(turned(out, out_irreps), golden["lin_out"], "lin_out")
    assert len(flat_blocks(out, out_irreps)) == 3
