"""Our side: the potential that is looked at, and what only it is asked for."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.optimize import BFGS

from organic_checks import lists
from organic_checks.geometry import Floats, Integers, Make, Potential, spearman
from torch_cormorant.data import read_npz, read_smiles
from torch_cormorant.errors import BlowUpError
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.dynamics import BlowUpGuard
from torch_cormorant.interfaces.native_dynamics import NativeDynamics
from torch_cormorant.models import Ensemble, load_models
from torch_cormorant.models.spread import potential_spreads

Rows = dict[str, Any]
HOT = 500.0  # K
FRICTION = 0.01  # 1/fs
TIME_STEP = 0.5  # fs
MOST_STRETCH = 1.6  # of a bond, before a molecule counts as broken


def loaded(where: str) -> Any:
    """The model, which does not warn while it is looked at."""
    model = load_models(where)
    if isinstance(model, Ensemble):
        model.warns = "never"
    return model


def maker(model: Any) -> Make:
    """Potentials of given atoms."""

    def make(z: Integers) -> Potential:
        calculator = CormorantCalculator(model)
        calculator.engine.model.warns = "never"
        atoms = Atoms(z, np.zeros((len(z), 3)), calculator=calculator)

        def call(pos: Floats) -> tuple[float, Floats]:
            atoms.positions = pos
            forces = atoms.get_forces()
            return atoms.get_potential_energy(), forces

        return call

    return make


def member(model: Any) -> Any:
    """One potential."""
    return model.models[0] if isinstance(model, Ensemble) else model


def errors(model: Any, data: Path, most: int) -> Rows:
    """Errors by class on molecules, and on classes, that were held out."""
    with np.load(data, allow_pickle=False) as file:
        kinds, parts = file["kind"], file["split"]
    rows: Rows = {}
    for part in ("test", "held_out"):
        own = kinds[parts == part]
        if len(own) == 0:
            continue
        frames = read_npz(data, part)
        for kind in sorted(set(own.tolist())):
            chosen = np.flatnonzero(own == kind)[:most]
            several = [frames[row] for row in chosen.tolist()]
            rows[f"{kind}, {part}"] = _errors_of(model, several)
    return rows


def _errors_of(model: Any, frames: list[Any]) -> Rows:
    out = model.evaluate_all(frames)
    sizes = torch.tensor([len(frame.z) for frame in frames])
    wrong = (out.energy - torch.cat([frame.energy for frame in frames])).abs() / sizes
    pulls = torch.cat([frame.forces for frame in frames])
    off = out.forces - pulls
    found: Rows = {
        "frames": len(frames),
        "energy_mae": 1000 * float(wrong.mean()),
        "force_mae": 1000 * float(off.abs().mean()),
        "force_rmse": 1000 * float(off.square().mean().sqrt()),
        "force_size": 1000 * float(pulls.abs().mean()),
    }
    if isinstance(model, Ensemble):
        spreads = potential_spreads(out, torch.repeat_interleave(sizes))
        far = [spreads[name] > limit for name, limit in model.limits.items()]
        if far:
            found["warned"] = 100 * float(torch.stack(far).any(0).double().mean())
        largest = [part.norm(dim=1).max() for part in off.split(sizes.tolist())]
        ranks = spreads["forces"].numpy(), torch.stack(largest).numpy()
        found["rank"] = spearman(*ranks) if len(frames) > 2 else 0.0
    return found


def strange(model: Any) -> Rows:
    """Spreads, in units of their limits, for chemistry that no training has held."""
    rows: Rows = {}
    known = dict(lists.STRANGE) | {"ibuprofen": lists.DRUGS["ibuprofen"]}
    if not isinstance(model, Ensemble) or not model.limits:
        return rows
    squeezed = {"ibuprofen, 15 % shorter": (lists.DRUGS["ibuprofen"], 0.85)}
    for name, (smiles, factor) in {
        **{name: (smiles, 1.0) for name, smiles in known.items()},
        **squeezed,
    }.items():
        frame = read_smiles(smiles)
        out = model.evaluate(frame.z, factor * frame.pos)
        found = potential_spreads(out, None)
        shares = {k: float(found[k][0]) / v for k, v in model.limits.items()}
        rows[name] = {"share": max(shares.values()), "warned": max(shares.values()) > 1}
    return rows


def stability(model: Any, picoseconds: float) -> Rows:
    """Dynamics at 500 K with one member and the native engine."""
    rows: Rows = {}
    for name, smiles in lists.MOVING.items():
        frame = read_smiles(smiles)
        atoms = Atoms(frame.z.numpy(), frame.pos.numpy())
        atoms.calc = CormorantCalculator(member(model), backend="native")
        with BFGS(atoms, logfile=None) as optimiser:
            optimiser.run(fmax=0.05, steps=300)
        dynamics = NativeDynamics(
            atoms,
            TIME_STEP * units.fs,
            temperature_K=HOT,
            friction=FRICTION / units.fs,
        )
        steps, start = round(1000 * picoseconds / TIME_STEP), time.process_time()
        text = "whole"
        with tempfile.TemporaryDirectory() as folder:
            guard = BlowUpGuard(
                atoms, Path(folder, "last.xyz"), max_stretch=MOST_STRETCH
            )
            try:
                guard.run(dynamics, steps, stride=200)
            except BlowUpError as error:
                text = str(error).partition(";")[0]
        spent = time.process_time() - start
        rows[name] = {
            "atoms": len(atoms),
            "asked_ps": picoseconds,
            "ps": dynamics.nsteps * TIME_STEP / 1000,
            "end": text,
            "ms_a_step": 1000 * spent / max(dynamics.nsteps, 1),
        }
    return rows
