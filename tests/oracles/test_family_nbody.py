"""N-body gates and networks against numbers of a brute-force program.

The numbers lie in a folder beside the repository, or in the one that the environment
variable CORMORANT_FAMILY names; every file says what it is by its name and settings.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torch_cormorant.conv import NBodyConv
from torch_cormorant.irreps import Irrep, Irreps
from torch_cormorant.so3 import flat_blocks, wigner_D

SHARED = Path(__file__).resolve().parents[3] / "shared" / "family"
FOLDER = Path(os.environ.get("CORMORANT_FAMILY", SHARED))
SKIP = pytest.mark.skip(reason=f"no files of N-body networks in {FOLDER}")
RTOL = 1e-10


def cases(pattern: str) -> list[Any]:
    files = sorted(FOLDER.rglob(f"nbody_{pattern}*.npz"))
    return [pytest.param(p, id=p.stem) for p in files] or [pytest.param("", marks=SKIP)]


def read(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def close(found: Tensor, expected: Any) -> None:
    expected = torch.as_tensor(expected)
    assert found.shape == expected.shape
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    assert torch.allclose(found.detach(), expected, rtol=0, atol=RTOL * scale)


def conv_of(name: str, irreps_in: object, irreps_out: object, **options: Any) -> Any:
    """The gate of a name such as ``11chain_full``, with all fragments as printed."""
    kind, _, product = name.partition("_")
    gate = {"10": "single", "12": "relative"}.get(kind, "pairs")
    return NBodyConv(
        irreps_in,
        irreps_out,
        gate,
        product="channelwise" if product == "cw" else "full",
        form="chain" if kind == "11chain" else "sums",
        complex=True,
        **{"fragments": "printed", **options},
    ).double()


def rows(states: list[Any]) -> Tensor:
    """Complex ``[N, C, 2l + 1]`` by degrees as rows of two planes."""
    parts = [torch.as_tensor(s).transpose(1, 2) for s in states]
    return torch.cat([torch.cat([p.real, p.imag], 2).flatten(1) for p in parts], 1)


def degrees(x: Tensor, irreps: Irreps) -> list[Tensor]:
    """The same back."""
    blocks = flat_blocks(x, [(2 * mul, ir) for mul, ir in irreps])
    halves = [block.chunk(2, dim=-1) for block in blocks]
    return [torch.complex(a, b).transpose(1, 2) for a, b in halves]


def own_order(conv: Any, ir: Irrep, labels: list[str] | None) -> list[int]:
    """Where each of our fragments stands in a list of labels of the files."""
    powers = conv.radial.count
    place = None if labels is None else {label: k for k, label in enumerate(labels)}
    order = []
    for p in range(powers):
        for piece in conv.paths.pieces:
            pairs = conv.paths.pairs(piece)
            for label in piece.labels.get(ir, ()):
                at = len(order) // pairs if place is None else place[f"p{p} {label}"]
                order += range(at * pairs, (at + 1) * pairs)
    return order


GATES = ("10", "11chain_full", "11chain_cw", "11pair_full", "11pair_cw", "12_full")


@pytest.mark.parametrize("name", [*GATES, "12_cw"])
@pytest.mark.parametrize("path", cases("gates"))
def test_gates(path: Path, name: str) -> None:
    case = read(path)
    lmax, channels = int(case["cfg_L"]), int(case["cfg_channels"])
    irreps = Irreps([(channels, ir) for _, ir in Irreps.harmonics(lmax, parity=False)])
    out = Irreps([(case[f"{name}_W_l{ir.l}"].shape[0], ir) for _, ir in irreps])
    conv = conv_of(name, irreps, out)
    x = rows([case[f"psi_l{l}"] for l in range(lmax + 1)])
    pos = torch.tensor(case["r"], requires_grad=True)
    node = torch.tensor(case["r0"])[None]
    edge_index = torch.stack([torch.arange(len(x)), torch.zeros(len(x)).long()])
    seen = {}

    def listen(self: Any, given: Any) -> Any:
        seen.update(type(conv).fragments(self, given))
        return dict(seen)

    conv.fragments = listen.__get__(conv)
    for ir in [ir for _, ir in irreps]:
        labels = [str(label) for label in case[f"{name}_labels_l{ir.l}"]]
        order = own_order(conv, ir, labels)
        weight = torch.tensor(case[f"{name}_W_l{ir.l}"])[:, order].T
        conv.weights[str(ir)].data = torch.stack([weight.real, weight.imag])
    made = conv(x, edge_index, pos=(pos, node))
    loss = torch.zeros((), dtype=torch.float64)
    for (_, ir), value in zip(out, degrees(made, out), strict=True):
        labels = [str(label) for label in case[f"{name}_labels_l{ir.l}"]]
        order = own_order(conv, ir, labels)
        frag = case[f"{name}_frag_l{ir.l}"]
        close(seen[ir][0].T, frag[order])
        close(value[0], case[f"{name}_out_l{ir.l}"])
        loss = (
            loss + (torch.tensor(case[f"{name}_cot_l{ir.l}"]).conj() * value).real.sum()
        )
        _check_zeros(conv, labels, frag, channels)
    (slope,) = torch.autograd.grad(loss, pos)
    close(slope, case[f"{name}_grad_r"])
    if lmax == 1:
        _check_distinct(conv, name, irreps, x, node, edge_index)
    _check_rotation(conv, case, lmax, x, pos, node, edge_index)


def _check_zeros(conv: Any, labels: list[str], frag: Any, channels: int) -> None:
    """What we call a zero is one in the file, and all others are not."""
    if conv.gate == "single":
        return
    pairs = len(frag) // max(1, len(labels))
    same = range(0, pairs, channels + 1 if pairs > channels else 1)
    for k, label in enumerate(labels):
        zero = label.split(" ")[1] in conv.paths.zeros
        values = np.abs(frag[k * pairs :][list(same)]).max()
        assert zero == (values < 1e-10), label


def _check_distinct(
    conv: Any, name: str, irreps: Irreps, x: Tensor, node: Tensor, edge_index: Tensor
) -> None:
    """What is left out by default are combinations of what is kept."""
    less = conv_of(name, irreps, conv.irreps_out, fragments="distinct")
    kept: dict[Any, list[Tensor]] = {}
    every: dict[Any, list[Tensor]] = {}
    for k in range(60):
        torch.manual_seed(k)
        given = (torch.randn_like(x), edge_index)
        pos = torch.randn(len(x), 3, dtype=torch.float64)
        for made, into in ((less, kept), (conv, every)):
            for ir, value in _fragments(made, *given, (pos, node)).items():
                into.setdefault(ir, []).append(value[0])
    for ir, values in every.items():
        a, b = torch.cat(kept[ir]), torch.cat(values)
        per = a.shape[1] // less.radial.count, b.shape[1] // less.radial.count
        a, b = a[:, : per[0]], b[:, : per[1]]  # the other powers are the same
        assert a.shape[1] <= b.shape[1]
        if not b.numel():
            continue
        solved = torch.linalg.lstsq(a, b).solution if a.numel() else a.mT @ b
        scale = float(b.abs().max())
        assert float((a @ solved - b).abs().max()) < 1e-9 * max(scale, 1e-3)


def _fragments(conv: Any, x: Tensor, edge_index: Tensor, pos: Any) -> Any:
    found: Any = {}

    def listen(self: Any, given: Any) -> Any:
        found.update(type(conv).fragments(self, given))
        return found

    conv.fragments = listen.__get__(conv)
    with torch.no_grad():
        conv(x, edge_index, pos=pos)
    return found


def _check_rotation(
    conv: Any, case: Any, lmax: int, x: Tensor, pos: Tensor, node: Tensor, index: Tensor
) -> None:
    """Proposition 1: states turn with the children, and their order plays no part."""
    R = torch.tensor(case["R"])
    D = wigner_D(R, lmax)

    def turned(rows: Tensor, irreps: Irreps) -> Tensor:
        parts = []
        planes = [(2 * mul, ir) for mul, ir in irreps]
        for block, (_, ir) in zip(flat_blocks(rows, planes), irreps, strict=True):
            at = slice(ir.l**2, (ir.l + 1) ** 2)
            parts.append((D[at, at] @ block).flatten(1))
        return torch.cat(parts, dim=1)

    out = conv(x, index, pos=(pos, node))
    expected = turned(out, conv.irreps_out)
    found = conv(turned(x, conv.irreps_in), index, pos=(pos @ R.T, node @ R.T))
    close(found, expected.detach())
    order = torch.arange(len(x)).flip(0)
    close(conv(x[order], index, pos=(pos[order], node)), out.detach())


@pytest.mark.parametrize("path", cases("net"))
def test_networks(path: Path) -> None:
    case = read(path)
    pos = torch.tensor(case["pos"], requires_grad=True)
    z = torch.tensor(case["charges"]).double()
    species = torch.tensor(case["cfg_species"])
    leaf = torch.cat([(z[:, None] == species).double(), z[:, None] / 9], 1)
    close(leaf[..., None].to(torch.complex128), case["leaf_l0"])
    x, places = rows([case["leaf_l0"]]), pos
    irreps, weights = Irreps([(leaf.shape[1], (0, 0))]), {}
    for s, name in enumerate(case["cfg_gates"].tolist()):
        lmax, channels = int(case["cfg_L"][s]), int(case["cfg_channels"][s])
        out = Irreps([(channels, (l, 0)) for l in range(lmax + 1)])
        conv = conv_of(name, irreps, out)
        for _, ir in out:
            given = f"level{s}_W_l{ir.l}"
            weight = torch.tensor(case[given])
            order = own_order(conv, ir, _labels(conv, ir))
            assert weight.shape[1] == len(order)
            if not order:
                continue
            own = torch.stack([weight.real, weight.imag]).transpose(1, 2)[:, order]
            conv.weights[str(ir)].data = own
            weights[given] = (conv.weights[str(ir)], order)
        part = torch.tensor(case[f"part_level{s}"]).double()
        nodes = part @ pos / part.sum(1, keepdim=True)
        close(nodes, case[f"level{s}_r"])
        scheme = torch.tensor(case[f"scheme_level{s}"])
        x = conv(x, scheme, pos=(places, nodes))
        for l, value in enumerate(degrees(x, out)):
            close(value, case[f"level{s}_l{l}"])
        places, irreps = nodes, out
    result = degrees(x, irreps)[0][0, :, 0]
    close(result, case["out"])
    loss = (torch.tensor(case["cotangent"]).conj() * result).real.sum()
    wanted = [pos, *(weight for weight, _ in weights.values())]
    slope, *others = torch.autograd.grad(loss, wanted, materialize_grads=True)
    close(slope, case["grad_pos"])
    for (name, (_, order)), grad in zip(weights.items(), others, strict=True):
        expected = torch.tensor(case[f"grad_{name}"]).T[order]
        close(torch.complex(grad[0], grad[1]), expected)


def _labels(conv: Any, ir: Irrep) -> list[str]:
    """Labels in the order of the files: degrees of the first child outside."""
    own = [label for piece in conv.paths.pieces for label in piece.labels.get(ir, ())]
    if conv.gate == "pairs" and conv.paths.form == "sums":
        own.sort(key=lambda text: text.replace("v", "0"))
    return [f"p{p} {label}" for p in range(conv.radial.count) for label in own]
