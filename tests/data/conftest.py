"""Three invented molecules in every form in which QM9 is published."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from torch_cormorant.data.qm9_raw import COLUMNS

# Number, symbols, positions. Printed to ten decimals in xyz and four in sdf.
MOLECULES = {
    1: ("CHHHH", [[0, 0, 0], [0, 0, 1.1], [1.0, 0, -0.4], [-0.5, 0.9, -0.4]]),
    17: ("OHH", [[-0.0343604951, 0.9775395708, 0.0076015923], [0.064766, 0.02, 0]]),
    21: ("NHHH", [[-0.04, 1.02, 0.0625], [0.0172574639, 0.0125452063, -0.0273]]),
}


def rows() -> dict[int, tuple[str, np.ndarray, np.ndarray]]:
    """Symbols, positions and the 15 properties of each molecule."""
    rng = np.random.default_rng(0)
    found = {}
    for number, (symbols, known) in MOLECULES.items():
        pos = rng.normal(size=(len(symbols), 3)).round(10)
        pos[: len(known)] = known
        values = rng.normal(size=15).round(4)
        values[10:14] -= 76
        found[number] = symbols, pos, values.round(6)
    return found


def atomisation(symbols: str, values: np.ndarray) -> list[float]:
    """QM9's own atomisation energies, by hand, kcal/mol."""
    known = {
        "H": (-0.500273, -0.498857, -0.497912, -0.510927),
        "C": (-37.846772, -37.845355, -37.844411, -37.861317),
        "N": (-54.583861, -54.582445, -54.581501, -54.598897),
        "O": (-75.064579, -75.063163, -75.062219, -75.079532),
    }
    return [
        (values[10 + k] - sum(known[symbol][k] for symbol in symbols)) * 627.509
        for k in range(4)
    ]


def sdf_text() -> str:
    """The molecules as an sdf file, with one bond each."""
    blocks = []
    for number, (symbols, pos, _) in rows().items():
        lines = [f"gdb_{number}", "     test", ""]
        lines.append(f"{len(symbols):3}  1  0  0  0  0  0  0  0  0999 V2000")
        for symbol, (x, y, z) in zip(symbols, pos, strict=True):
            lines.append(
                f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:3} 0  0  0  0  0  0  0  0  0  0"
            )
        charge = ["M  CHG  1   1   1"] if number == 17 else []
        lines += ["  1  2  1  0", *charge, "M  END", "$$$$"]
        blocks.append("\n".join(lines) + "\n")
    return "".join(blocks)


def csv_text() -> str:
    """Their properties as QM9's table."""
    lines = [",".join(("mol_id", *COLUMNS))]
    for number, (symbols, _, values) in rows().items():
        numbers = [*values.tolist(), *atomisation(symbols, values)]
        lines.append(",".join([f"gdb_{number}", *map(repr, map(float, numbers))]))
    return "\n".join(lines) + "\n"


def list_text(*numbers: int) -> str:
    """The list of molecules that failed the consistency check."""
    middle = [f"{number:6} C#N [H]C" for number in numbers]
    return "\n".join([*["heading"] * 9, *middle, "-----", ""])


def xyz_text(number: int) -> str:
    """One molecule as QM9's own file, with its odd exponents."""
    symbols, pos, values = rows()[number]

    def odd(value: float) -> str:
        return (
            f"{value:.10f}" if abs(value) > 1e-3 else f"{value:.6e}".replace("e", "*^")
        )

    lines = [
        str(len(symbols)),
        "\t".join([f"gdb {number}", *map(repr, values.tolist()), ""]),
    ]
    for symbol, row in zip(symbols, pos, strict=True):
        lines.append("\t".join([symbol, *map(odd, row), odd(-1.2e-6)]))
    lines += ["1341.307\t1341.3284", "C\tCC", "InChI=1S/x\tInChI=1S/x", ""]
    return "\n".join(lines)


def write_pyg(folder: Path, *failed: int) -> Path:
    """PyG's raw files below ``folder/raw``; returns the folder."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    (raw / "gdb9.sdf").write_text(sdf_text())
    (raw / "gdb9.sdf.csv").write_text(csv_text())
    (raw / "uncharacterized.txt").write_text(list_text(*failed))
    return folder


def write_xyz(folder: Path, *failed: int) -> Path:
    """QM9's own archive below ``folder/raw``; returns the folder."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    with tarfile.open(raw / "dsgdb9nsd.xyz.tar.bz2", "w:bz2") as archive:
        for number in reversed(MOLECULES):  # the order must not matter
            content = xyz_text(number).encode()
            member = tarfile.TarInfo(f"dsgdb9nsd_{number:06}.xyz")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (raw / "uncharacterized.txt").write_text(list_text(*failed))
    return folder


@pytest.fixture
def samples() -> SimpleNamespace:
    """What writes the molecules, and what they hold."""
    return SimpleNamespace(
        rows=rows,
        atomisation=atomisation,
        sdf_text=sdf_text,
        csv_text=csv_text,
        list_text=list_text,
        xyz_text=xyz_text,
        write_pyg=write_pyg,
        write_xyz=write_xyz,
    )


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that does not write to the terminal."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve the files of a folder at an address."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
