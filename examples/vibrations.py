"""Vibrational spectrum of a molecule: normal modes and molecular dynamics.

    python examples/vibrations.py                  # ethanol, small potential
    python examples/vibrations.py --ps 20          # sharper lines from dynamics

The potential is relaxed first. Lines are the normal modes of its exact second
derivatives; the curve is the power spectrum of the velocities in a run without
thermostat, in which anharmonic modes shift. Writes vibrations.png and vibrations.csv.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from ase import units
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from torch_cormorant import load_model
from torch_cormorant.errors import ConfigError, CormorantError
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.dynamics import BlowUpGuard
from torch_cormorant.interfaces.structures import read_atoms
from torch_cormorant.models import vibrational_frequencies

MODELS = Path(__file__).parent / "models"
WAVENUMBER = 1e13 / 299_792_458.0  # 1/cm of one cycle per fs


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODELS / "ethanol.safetensors")
    parser.add_argument("--start", type=Path, default=MODELS / "ethanol.xyz")
    parser.add_argument("--ps", type=positive, default=2.0, help="length; default 2")
    parser.add_argument("--timestep", type=positive, default=0.5, help="fs")
    parser.add_argument("--temperature", type=positive, default=300.0, help="K")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/vibrations"))
    return parser.parse_args(argv)


def spectrum(
    speeds: NDArray[np.float64], masses: NDArray[np.float64], step: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fourier transform of the mass-weighted velocity autocorrelation.

    Args:
        speeds: Velocities of all steps ``[T, N, 3]``.
        masses: ``[N]``.
        step: Time between them in fs.

    Returns:
        Wavenumbers in 1/cm and the power at them, scaled to a largest value of 1.
    """
    window = np.hanning(len(speeds))[:, None, None]
    weighted = speeds * np.sqrt(masses)[:, None]
    power = np.abs(np.fft.rfft(window * weighted, axis=0)) ** 2
    total = power.sum((1, 2))
    wave = np.fft.rfftfreq(len(speeds), step) * WAVENUMBER
    return wave, total / total.max()


def run(args: argparse.Namespace) -> None:
    """Relax, take modes, run dynamics, draw both."""
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    model = load_model(args.model).double()
    atoms = read_atoms(args.start)
    if len(atoms) < 2 or atoms.pbc.any():
        msg = f"{args.start}: vibrations are those of a molecule of two atoms or more"
        raise ConfigError(f"{msg}, without a periodic cell")
    atoms.calc = CormorantCalculator(model, skin=1.0)
    with BFGS(atoms, logfile=None) as optimiser:
        optimiser.run(fmax=1e-4, steps=500)
    z, pos = torch.from_numpy(atoms.numbers).long(), torch.from_numpy(atoms.positions)
    found = vibrational_frequencies(model, z, pos)
    modes = found.frequencies.numpy()

    random = np.random.default_rng(args.seed)
    # every normal mode gets the same energy, none is left cold; modes are orthonormal
    # when weighted by the roots of the masses
    signs = random.choice([-1.0, 1.0], size=len(modes))
    kicks = signs * np.sqrt(units.kB * 2 * args.temperature)
    atoms.set_velocities(np.einsum("k,kia->ia", kicks, found.modes.numpy()))
    steps = max(round(args.ps * 1000 / args.timestep), 16)
    speeds: list[NDArray[np.float64]] = []
    dynamics = VelocityVerlet(atoms, args.timestep * units.fs)
    dynamics.attach(lambda: speeds.append(atoms.get_velocities()))
    BlowUpGuard(atoms, args.out / "last_good.xyz").run(dynamics, steps)
    wave, power = spectrum(np.array(speeds), atoms.get_masses(), args.timestep)

    shown = wave < max(4000.0, modes.max() + 200)
    figure = Figure(figsize=(7.2, 3.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(wave[shown], power[shown], color="#1f5fa8", linewidth=1, label="dynamics")
    axes.vlines(modes, -0.12, -0.02, color="#d9772b", label="normal modes")
    axes.set_xlabel("wavenumber [1/cm]")
    axes.set_ylabel("power of the velocities")
    axes.set_title(
        f"{atoms.get_chemical_formula()}, {args.temperature:g} K, {args.ps:g} ps",
        fontsize=10,
    )
    axes.legend(frameon=False)
    figure.savefig(args.out / "vibrations.png")
    rows = np.column_stack([wave[shown], power[shown]])
    np.savetxt(
        args.out / "vibrations.csv", rows, delimiter=",", header="wavenumber_1/cm,power"
    )
    print("normal modes [1/cm]:", " ".join(f"{mode:.0f}" for mode in modes))
    print(f"files in {args.out}")


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake ends in one line."""
    try:
        run(parse(argv))
    except (CormorantError, OSError) as error:
        print(f"vibrations.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
