"""TensorFieldConv against tensor field networks made of e3nn's layers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from torch_cormorant import EdgeGeometry, clebsch_gordan
from torch_cormorant.conv import TensorFieldConv
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn import NormActivation, moment_factor
from torch_cormorant.so3 import flat_blocks, to_e3nn

SHARED = Path(__file__).resolve().parents[3] / "shared" / "family"
FOLDER = Path(os.environ.get("CORMORANT_FAMILY", SHARED))
FILES = [p for p in sorted(FOLDER.rglob("tfn_*.npz")) if "cfg_hidden" in np.load(p)]
SKIP = pytest.mark.skip(reason=f"no tensor field networks in {FOLDER}")
CASES = [pytest.param(path, id=path.stem) for path in FILES] or [
    pytest.param(None, marks=SKIP)
]


class Case:
    """A file: three layers, their weights as leaves, and what they gave."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.held = {name: file[name] for name in file.files}
        self.weights = {
            name: torch.tensor(value, requires_grad=True)
            for name, value in self.held.items()
            if name.startswith("w.")
        }
        self.pos = torch.tensor(self.held["pos"], requires_grad=True)
        hidden = str(self.held["cfg_hidden"])
        if "1e" in str(self.held["cfg_sh"]):  # rotations alone: no parities
            hidden = hidden.replace("e", "").replace("o", "")
        scalar = hidden.split("+")[0].split("x")[1]
        self.layers = int(self.held["cfg_num_layers"])
        self.irreps = [Irreps(f"5x{scalar}"), *[Irreps(hidden)] * (self.layers - 1)]
        self.irreps.append(Irreps(f"3x{scalar}"))

    def compare(self, name: str, found: Tensor, irreps: object = None) -> None:
        if irreps is not None:
            found = to_e3nn(found, irreps)
        value, expected = found.detach().numpy(), self.held[name]
        assert value.shape == expected.shape, name
        assert np.abs(value - expected).max() <= 1e-10 * np.abs(expected).max(), name

    def radial(self, geometry: EdgeGeometry) -> Tensor:
        """Gaussians that leave out both ends, with e3nn's factors."""
        count, cutoff = int(self.held["cfg_num_basis"]), self.held["cfg_cutoff"]
        step = float(cutoff) / (count + 1)
        centres = step * torch.arange(1, count + 1, dtype=torch.float64)
        scaled = (geometry.edge_length[:, None] - centres) / step
        return torch.exp(-scaled.square()) / 1.12 * count**0.5

    def edge_weights(self, s: int, rows: Tensor) -> Tensor:
        first, last = (self.weights[f"w.{s}.fc.layer{k}.weight"] for k in (0, 1))
        h = torch.nn.functional.silu(rows @ first / len(first) ** 0.5)
        h = moment_factor("silu", "e3nn") * h
        return h @ last / len(last) ** 0.5

    def linear(self, s: int, conv: TensorFieldConv) -> dict[str, Tensor]:
        """Their flat weights as ours, one matrix for each irrep."""
        owned = conv.linear.weights
        flat = self.weights[f"w.{s}.lin.weight"]
        parts = flat.split([weight.numel() for weight in owned.values()])
        state = {
            f"linear.weights.{ir}": part.view(own.shape) / len(own) ** 0.5
            for (ir, own), part in zip(owned.items(), parts, strict=True)
        }
        return {**state, "linear.bias": self.weights[f"w.{s}.lin.bias"]}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_layers_gradients_and_result(case: Case) -> None:
    index = torch.tensor(case.held["edge_index"])
    geometry = EdgeGeometry.from_pos(case.pos, index)
    rows = case.radial(geometry)
    case.compare("radial", rows)
    species = torch.tensor([1, 6, 7, 8, 9])
    x = (torch.tensor(case.held["charges"])[:, None] == species).double()
    for s in range(case.layers):
        irreps_in, irreps_out = case.irreps[s : s + 2]
        conv = TensorFieldConv(
            irreps_in,
            irreps_out,
            lmax_sh=2,
            cutoff=None,
            avg_num_neighbors=float(case.held["cfg_neighbours"]),
        ).double()
        seen: list[Any] = []
        conv.linear.register_forward_pre_hook(lambda _, given, s=seen: s.extend(given))
        weights = case.edge_weights(s, rows)
        case.compare(f"layer{s}_weights", weights)
        given = {"edge_weight": weights * conv.path_factors(signs=True)}
        x = functional_call(conv, case.linear(s, conv), (x, geometry), given)
        merged = conv.paths.out  # their paths stand side by side, ours in one block
        blocks = sorted(conv.paths.paths, key=lambda path: path.out)
        single = [(irreps_in[p.first].mul, merged[p.out].ir) for p in blocks]
        columns = zip(flat_blocks(seen[0], merged), merged, strict=True)
        split = [
            part.flatten(1)
            for block, (_, ir) in columns
            for part in block.split([mul for mul, own in single if own == ir], dim=-1)
        ]
        case.compare(f"layer{s}_agg", torch.cat(split, dim=1), single)
        case.compare(f"layer{s}_selfint", x, irreps_out)
        if s < case.layers - 1:
            bias = {"bias": case.weights[f"w.{s}.act.biases"]}
            x = functional_call(NormActivation(irreps_out), bias, (x,))
        case.compare(f"layer{s}_out", x, irreps_out)
    batch = torch.tensor(case.held["batch"])
    out = x.new_zeros(int(batch.max()) + 1, 3).index_add(0, batch, x)
    case.compare("out", out)
    loss = (out * torch.tensor(case.held["cotangent"])).sum()
    leaves = {"grad_pos": case.pos}
    leaves |= {f"grad{name}": value for name, value in case.weights.items()}
    found = torch.autograd.grad(loss, list(leaves.values()))
    for name, value in zip(leaves, found, strict=True):
        case.compare(name, value)


KERNELS = sorted(FOLDER.rglob("thesis_unit*.npz"))
SIZES = {
    "a": ("3x0 + 2x1", "2x0 + 3x1 + 2x2"),
    "b": ("2x0 + 3x1 + 2x2", "4x0 + 2x1 + 1x2 + 3x3"),
}


def outside(x: Tensor, irreps: Irreps) -> Tensor:
    """Rows with copies outside and components inside, in our axes."""
    return torch.cat([p.mT.flatten(1) for p in flat_blocks(x, irreps)], dim=1)


def inside(x: Tensor, irreps: Irreps) -> Tensor:
    parts = x.split([block.dim for block in irreps], dim=1)
    shaped = [p.unflatten(1, (b.mul, -1)) for p, b in zip(parts, irreps, strict=True)]
    return torch.cat([p.mT.flatten(1) for p in shaped], dim=1)


@pytest.mark.skipif(not KERNELS, reason=f"no kernel convolutions in {FOLDER}")
@pytest.mark.parametrize("name", list(SIZES))
@pytest.mark.parametrize("mode", ["norm", "component"])
def test_the_full_convolution_of_2020(name: str, mode: str) -> None:
    """All pairs, self edges too; every table of that e3nn has a sign of its own."""
    with np.load(KERNELS[0]) as file:
        held = {key: torch.tensor(file[key]) for key in file.files}
    own = {key: held[f"conv_{name}_{mode}_{key}"] for key in ("w0", "w1", "in", "out")}
    pos, factor = held["pos"], held[f"conv_{name}_{mode}_factor"]
    count = len(pos)
    index = torch.cartesian_prod(torch.arange(count), torch.arange(count)).T
    geometry = EdgeGeometry.from_pos(pos, index)
    length = geometry.edge_length
    waves = length[:, None] - torch.arange(5)  # centres 0, 1, 2, 3, 4 Angstrom
    basis = torch.cos(torch.pi / 2 * waves).square() * (waves.abs() < 1)
    softplus = torch.nn.functional.softplus(basis @ own["w0"].T, beta=5)
    h = factor * (softplus - np.log(2) / 5)
    rows = h @ own["w1"].T / own["w1"].shape[1] ** 0.5
    irreps_in, irreps_out = map(Irreps, SIZES[name])
    conv = TensorFieldConv(irreps_in, irreps_out, mode="full", cutoff=None).double()
    same, found, at = index[0] == index[1], {}, 0
    for k, (w, (lo, _)) in enumerate(irreps_out):
        fan = sum(u * (2 * min(l, lo) + 1) for u, (l, _) in irreps_in)
        for i, (u, (li, _)) in enumerate(irreps_in):
            degrees = range(abs(lo - li), lo + li + 1)
            size = w * u * len(degrees)
            R = rows[:, at : at + size].reshape(-1, w, u, len(degrees))
            at += size
            top = 4 * np.pi * (2 * (li if mode == "norm" else lo) + 1)
            norm = (top / torch.where(same, u, fan).double()).sqrt()
            for f, lf in enumerate(degrees):
                table = held[f"cg_{lo}_{li}_{lf}"].permute(1, 2, 0)
                ours = clebsch_gordan(li, lf, lo, dtype=table.dtype)
                scale = float((table * ours).sum() / ours.square().sum())
                scale *= ((2 * lf + 1) / (4 * np.pi)) ** 0.5
                matrix = R[..., f].mT * norm[:, None, None] * scale
                found[i, lf, k] = matrix.flatten(1)
    weights = torch.cat([found[path[:3]] for path in conv.paths.paths], dim=1)
    out = conv(inside(own["in"], irreps_in), geometry, edge_weight=weights)
    error = (outside(out, irreps_out) - own["out"]).abs().max()
    assert error < 1e-12 * own["out"].abs().max()
