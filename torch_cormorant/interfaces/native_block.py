"""The weights of a potential as a file for the native evaluator.

What follows from weights alone is worked out here, once and in float64:

- scales of norms go into all weights that read normalised features;
- level 0 reads elements only, so its dot products, identity and square are constants;
- equal paths of a square are added up;
- squares of real and imaginary parts take the place of the two invariants made of them;
- scale and references of the normalisation.

All levels get equal sizes: degrees and channels that one lacks have weights of zero.
``csrc/native/parameters.h`` reads what is written here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.conv import CormorantConv
from torch_cormorant.models import Model
from torch_cormorant.nn.cutoff import CLAMP, SoftCutoff
from torch_cormorant.nn.heads.base import SCALE
from torch_cormorant.nn.heads.scalar import ExtensiveHead
from torch_cormorant.nn.inputs import LinearInput
from torch_cormorant.nn.norm import Gate, SO3Norm
from torch_cormorant.nn.radial import Bessel, Gaussian
from torch_cormorant.nn.zbl import COULOMB, SCREENING, ZBL, screening_length
from torch_cormorant.ops import PathTable, fold_columns
from torch_cormorant.ops.paths import check_paths

__all__ = ["MAX_LMAX", "parameter_block"]

Array = NDArray[np.float64]
MAGIC = 0x32564E4D43
HEADER, SUM = 40, 30
CUTS = (SUM, SUM + 1)
UNIT = 16
"""Bytes of the name of the unit."""
MAX_LMAX = 4
"""Largest degree that is compiled in."""


def parameter_block(model: Model) -> bytes:
    """The file of a potential that :func:`.native_problem` has nothing against.

    Args:
        model: The potential.

    Returns:
        A header of 40 whole numbers (int64), then float64 numbers, little endian; entry
        30 of the header is the CRC-32 of everything else.
    """
    with torch.no_grad():
        return _Block(model).bytes()


def with_checksum(header: NDArray[np.int64], numbers: bytes) -> bytes:
    """Header and numbers, with their checksum in its place."""
    first, _, rest = (part.astype("<i8").tobytes() for part in np.split(header, CUTS))
    header[SUM] = zlib.crc32(numbers, zlib.crc32(rest, zlib.crc32(first)))
    return header.astype("<i8").tobytes() + numbers


def _array(value: Tensor) -> Array:
    return cast("Array", value.detach().double().cpu().numpy())


class _Block:
    """The numbers in their order, and what decides the sizes."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.known = model.features.known
        self.z = torch.tensor(self.known, device=model.features.species.device)
        self.planes, self.levels = model.planes, model.num_levels
        self.lmax = max(1, *model.lmax, *model.lmax_sh)
        self.channels = max(model.channels)
        parity = check_paths(model.conv_layers()[0].paths)
        sizes = (self.lmax, self.lmax, self.lmax)
        self.even = parity == "even"
        self.sums = PathTable(*sizes, parity)
        self.squares = PathTable(*sizes, parity, folded=True)
        self.numbers: list[Array] = []

    def bytes(self) -> bytes:
        """Header and numbers."""
        self._units()
        inputs = self._input()
        self._put(self._padded(inputs))
        gain = np.ones((self.lmax + 1, self.channels))
        gains = []
        for s in range(self.levels):
            gain = self._level(s, gain, self._padded(inputs))
            gains.append(gain)
        self._head(gains)
        self._repulsion()
        counts = [self._products(self.sums, folded=False)]
        counts += [self._products(self.squares, folded=True), self._harmonics()]
        data = np.concatenate(self.numbers).astype("<f8")
        header = np.zeros(HEADER, np.int64)
        header[:2] = MAGIC, len(data)
        header[2 : 2 + 17] = *self._sizes(), *counts
        header[20 : 20 + self.lmax + 1] = self.sums.counts
        header[25 : 25 + self.lmax + 1] = self.squares.counts
        header[19] = 64 if self.model.dtype == torch.float64 else 32
        unit = self.model.info.units[0].encode().ljust(UNIT, bytes(1))
        header[32:34] = np.frombuffer(unit, np.int64)
        return with_checksum(header, data.tobytes())

    def _sizes(self) -> Iterable[int]:
        net = self.model.conv_layers()[0].edge_network
        mask = cast("SoftCutoff", net.cutoff)
        kinds = (0 if not mask.soft else 2 if mask.gaussian else 1,)
        head = cast("ExtensiveHead", self.model.head)
        return (
            *(self.lmax, self.planes, int(self.even), self.channels),
            *(self.levels, len(self.known), int(isinstance(net.radial, Gaussian))),
            *(_num_basis(net.radial), *kinds, int(net.envelope_cutoff is not None)),
            int(isinstance(self.model.norms[0], SO3Norm)),
            int(isinstance(self.model.gates[0], Gate)),
            cast("Any", head.mlp[0]).out_features,
            int(_repulsion_of(self.model) is not None),
        )

    def _put(self, *values: ArrayLike) -> None:
        self.numbers += [np.asarray(v, np.float64).ravel() for v in values]

    def _padded(self, value: Array) -> Array:
        """``[..., P, C]`` of complex channels ``[..., C]``, filled up."""
        out = np.zeros((*value.shape[:-1], self.planes, self.channels))
        out[..., 0, : value.shape[-1]] = value.real
        if self.planes == 2:
            out[..., 1, : value.shape[-1]] = value.imag
        return out

    def _units(self) -> None:
        model = self.model
        units = model.info.normalisation
        net = model.conv_layers()[0].edge_network
        norm = model.norms[0]
        self._put(
            *(model.cutoff or 0.0, cast("Any", net.radial).cutoff, units.mean[0]),
            norm.eps if isinstance(norm, SO3Norm) else 0.0,
            self.known,
            _array(units.atoms(self.z)[:, 0]),
        )

    def _input(self) -> Array:
        """First features of every element, complex ``[species, C]``."""
        linear = cast("LinearInput", self.model.input).linear
        rows = _array(self.model.features(self.z, torch.float64))
        x = rows @ _array(linear.weight).T + _array(linear.bias)
        x = x.reshape(len(self.known), self.model.channels[0], self.planes)
        return cast(
            "Array", x[..., 0] + 1j * x[..., 1] if self.planes == 2 else x[..., 0]
        )

    # -------------------------------------------------------------------- levels

    def _level(self, s: int, gain: Array, first: Array) -> Array:
        """Write a level; returns the scale of its features ``[lmax + 1, C]``."""
        conv = self.model.conv_layers()[s]
        norm, gate = self.model.norms[s], self.model.gates[s]
        x = first[:, 0] + 1j * first[:, 1] if self.planes == 2 else first[:, 0]
        channels, lmax = self.model.channels[s + 1], self.model.lmax[s]
        self._put([1 / (channels * (2 * l + 1)) for l in range(self.lmax + 1)])
        self._edges(s, conv, gain, x)
        self._vertex(s, conv, gain, x)
        gain = np.ones((self.lmax + 1, self.channels))
        if isinstance(norm, SO3Norm):
            gain[: lmax + 1, :channels] = _array(norm.weight)
        if isinstance(gate, Gate):
            self._gate(gate, gain, channels, lmax)
        return gain

    def _matrix(self, weight: Array, gain: Array | None = None) -> Array:
        """``[C out, C in]`` complex to ``[C in, P, C out]``, scaled and filled up."""
        out = np.zeros((self.channels, weight.shape[0]), weight.dtype)
        out[: weight.shape[1]] = weight.T
        if gain is not None:
            out *= gain[:, None]
        return self._padded(out)

    def _edges(self, s: int, conv: CormorantConv, gain: Array, x: Array) -> None:
        net, C = conv.edge_network, self.channels
        weights = [_complex(w) for w in net.weights()]
        parts = [
            np.split(w, np.cumsum(net.widths(l))[:3], axis=1)
            for l, w in enumerate(weights)
        ]
        none = np.zeros((0, 0))
        parts += [[none] * 4] * (self.lmax - net.lmax)
        if s == 0:
            pairs = x[:, None] * x[None]
            self._put(self._padded(pairs[..., : parts[0][1].shape[1]] @ parts[0][1].T))
        else:
            width = conv.in_channels
            for state, dots, *_ in parts:
                out = np.zeros((self.lmax + 1, C, self.planes, C))
                for d in range(dots.shape[1] // max(width, 1)):
                    block = dots[:, d * width : (d + 1) * width]
                    out[d] = self._matrix(block, gain[d] ** 2)
                self._put(out, self._matrix(state))
        rows = np.zeros((_num_basis(net.radial), self.lmax + 1, self.planes, C))
        for l, (_, _, radial, _) in enumerate(parts[: net.lmax + 1]):
            rows[:: self.planes, l] = self._padded(radial.T)
            if self.planes == 2:
                rows[1::2, l] = self._padded(1j * radial.T)
        self._put(rows)
        for value in map(net.cutoff.get_parameter, ("radius", "width")):
            radii = np.ones(C)
            radii[: value.numel()] = np.maximum(np.abs(_array(value)), CLAMP)
            self._put(radii)

    def _vertex(self, s: int, conv: CormorantConv, gain: Array, x: Array) -> None:
        vertex = conv.vertex
        weights, width = vertex.weights(), conv.in_channels
        constant = np.zeros((len(self.known), self.planes, self.channels))
        for l in range(self.lmax + 1):
            units = (self.sums.counts[l] + 1 + self.squares.counts[l]) if s else 1
            out = np.zeros((units, self.channels, self.planes, self.channels))
            if l > vertex.lmax:
                self._put(out)
                continue
            sums = [path for path in vertex.sum_paths.paths if path[2] == l]
            same = int(l <= vertex.lmax_in)
            cuts = [len(sums) * width, (len(sums) + same) * width]
            parts = torch.tensor_split(weights[l].detach().double(), cuts, dim=-1)
            total, identity, square = map(
                _complex,
                (
                    *parts[:2],
                    fold_columns(
                        parts[2], vertex.square_paths, vertex.folded_paths, l, width
                    ),
                ),
            )
            squares = [path for path in vertex.folded_paths.paths if path[2] == l]
            if s == 0:
                if sums:
                    out[0] = self._matrix(total)
                if l == 0:
                    own = x[:, :width]
                    constant = self._padded(own @ identity.T + own**2 @ square.T)
                self._put(out)
                continue
            for k, path in enumerate(sums):
                at = _position(self.sums, path)
                block = total[:, k * width : (k + 1) * width]
                out[at] = self._matrix(block, gain[path[1]])
            if same:
                out[self.sums.counts[l]] = self._matrix(identity, gain[l])
            for k, path in enumerate(squares):
                at = self.sums.counts[l] + 1 + _position(self.squares, path)
                block = square[:, k * width : (k + 1) * width]
                out[at] = self._matrix(block, gain[path[0]] * gain[path[1]])
            self._put(out)
        if s == 0:
            self._put(constant)

    def _gate(self, gate: Gate, gain: Array, channels: int, lmax: int) -> None:
        L, C = self.lmax + 1, self.channels
        weight = np.zeros((self.planes, C, L, C))
        given = _array(gate.linear.weight).reshape(
            lmax + 1, channels, self.planes, channels
        )
        given = given.transpose(2, 3, 0, 1) * gain[0, :channels, None, None]
        weight[:, :channels, : lmax + 1, :channels] = given
        bias = np.zeros((L, C))
        bias[: lmax + 1, :channels] = _array(gate.linear.bias).reshape(
            lmax + 1, channels
        )
        self._put(weight, bias)

    # ---------------------------------------------------------------------- head

    def _head(self, gains: list[Array]) -> None:
        model, P = self.model, self.planes
        first, _, last = cast("ExtensiveHead", model.head).mlp
        weight = _array(cast("Any", first).weight)
        out = np.zeros((self.levels, self.lmax + 2, P, self.channels, weight.shape[0]))
        at = 0
        for s, channels in enumerate(model.channels[1:]):
            part = weight[:, at : at + P * channels].reshape(-1, channels, P)
            scale = gains[s][0, None, :channels, None]
            out[s, 0, :, :channels] = (part * scale).transpose(2, 1, 0)
            at += P * channels
        for l in range(self.lmax + 1):
            for s, channels in enumerate(model.channels[1:]):
                if l > model.lmax[s]:
                    continue
                part = weight[:, at : at + P * channels].reshape(-1, channels, P)
                part = part * gains[s][l, None, :channels, None] ** 2
                if P == 2:  # of (re^2 - im^2, re^2 + im^2) to of (re^2, im^2)
                    both, norm = part[..., 0], part[..., 1]
                    part = np.stack([norm + both, norm - both], axis=-1)
                out[s, l + 1, :, :channels] = part.transpose(2, 1, 0)
                at += P * channels
        factor = SCALE * model.info.normalisation.std[0]
        second = cast("Any", last)
        self._put(out, _array(cast("Any", first).bias))
        self._put(_array(second.weight) * factor, _array(second.bias) * factor)

    def _repulsion(self) -> None:
        zbl = _repulsion_of(self.model)
        if zbl is None:
            return
        z = self.z
        radii = zbl.hundredths[z].double()
        last = (radii[:, None] + radii) * (zbl.scale / 100)
        charge = COULOMB[zbl.unit] * (z[:, None] * z).double()
        inverse = 1 / screening_length(z[:, None].double(), z.double())
        self._put(_array(torch.stack([charge, inverse, last], dim=-1)), SCREENING)

    # ------------------------------------------------------------------ products

    def _products(self, table: PathTable, *, folded: bool) -> int:
        """Nonzero Clebsch-Gordan entries; returns their number."""
        found: dict[tuple[int, ...], float] = {}
        for l1, l2, l in table.paths:
            cg = clebsch_gordan(l1, l2, l, dtype=torch.float64)
            place = _position(table, (l1, l2, l))
            for a, b, m in cg.nonzero().tolist():
                first, second = l1 * l1 + a, l2 * l2 + b
                if folded and first > second:  # of a square: one entry for both
                    first, second = second, first
                key = (l, m, place, first, second)
                found[key] = found.get(key, 0.0) + float(cg[a, b, m])
        return self._put_terms(found)

    def _harmonics(self) -> int:
        """Harmonics of each degree as products of those of degree 1 and one less."""
        found: dict[tuple[int, ...], float] = {}
        for l in range(2, self.lmax + 1):
            cg = clebsch_gordan(1, l - 1, l, dtype=torch.float64)
            scale = 1 / float(cg[1, l - 1, l])  # at the pole all three are one
            for a, b, m in cg.nonzero().tolist():
                found[l, m, 0, a, b] = scale * float(cg[a, b, m])
        return self._put_terms(found)

    def _put_terms(self, found: dict[tuple[int, ...], float]) -> int:
        kept = {key: value for key, value in found.items() if abs(value) > 1e-14}
        self._put(*((*key, value) for key, value in kept.items()))
        return len(kept)


def _complex(weight: Tensor) -> Array:
    """``[P, out, in]`` as a complex (or real) matrix."""
    planes = _array(weight)
    return cast("Array", planes[0] + 1j * planes[1] if len(planes) == 2 else planes[0])


def _position(table: PathTable, path: tuple[int, int, int]) -> int:
    """Where a path stands among those of its degree."""
    return [other for other in table.paths if other[2] == path[2]].index(path)


def _num_basis(radial: Any) -> int:
    return int(cast("Bessel | Gaussian", radial).num_basis)


def _repulsion_of(model: Model) -> ZBL | None:
    found: ZBL | None = getattr(model, "pair", None)
    return found
