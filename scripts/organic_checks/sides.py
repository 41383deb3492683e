"""What is computed with each potential, theirs and ours, and what is compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from organic_checks import lists, starts
from organic_checks.geometry import (
    Floats,
    Make,
    frequencies,
    relax,
    rmsd,
    spearman,
    turned,
)

Arrays = dict[str, Any]
KCAL = 23.060547830619026  # kcal/mol of an eV
ANGLES = np.arange(0.0, 360.0, 15.0)
FACTORS = np.linspace(0.8, 2.2, 29)
NEAR = 1.3  # of a stretched bond
WAY = np.linspace(0.0, 1.0, 21)
SHORTEST = 0.95  # Angstrom, of a proton from an atom
LONG_ENOUGH = 0.3  # seconds of a timing


def names_of(given: Arrays) -> list[str]:
    """What structures are called."""
    return [key.removesuffix(":z") for key in given if key.endswith(":z")]


def _relaxed(fmax: float, steps: int) -> Callable[..., Arrays]:
    def compute(make: Make, given: Arrays, there: Arrays | None = None) -> Arrays:
        """Relax all; at the geometries of the other side also the energy."""
        found: Arrays = {}
        for name in names_of(given):
            z = given[f"{name}:z"]
            pos, energy, done = relax(make, z, given[f"{name}:pos"], fmax, steps)
            found |= {f"{name}:pos": pos, f"{name}:energy": energy}
            found[f"{name}:done"] = done
            if there is not None:
                found[f"{name}:at"] = make(z)(there[f"{name}:pos"])[0]
        return found

    return compute


def _base(make: Make, given: Arrays, there: Arrays | None, name: str) -> Floats:
    """Where a scan begins: the minimum of the reference, for both sides."""
    if there is not None:
        return np.asarray(there[f"{name}:base"])
    return relax(make, given[f"{name}:z"], given[f"{name}:pos"], 0.01, 300)[0]


def _scan(frames: Callable[[Arrays, str, Floats], list[Floats]]) -> Any:
    def compute(make: Make, given: Arrays, there: Arrays | None = None) -> Arrays:
        """Energies along a way, from the minimum of the reference."""
        found: Arrays = {}
        for name in names_of(given):
            base = _base(make, given, there, name)
            potential = make(given[f"{name}:z"])
            ways = frames(given, name, base)
            found[f"{name}:base"] = base
            found[f"{name}:curve"] = np.array([potential(pos)[0] for pos in ways])
        return found

    return compute


def _turns(given: Arrays, name: str, base: Floats) -> list[Floats]:
    axis, moved = given[f"{name}:axis"], given[f"{name}:moved"]
    return [turned(base, tuple(axis), moved, angle) for angle in ANGLES]


def _pulls(given: Arrays, name: str, base: Floats) -> list[Floats]:
    (first, second), moved = given[f"{name}:axis"], given[f"{name}:moved"]
    bond = base[second] - base[first]
    frames = []
    for factor in FACTORS:
        pos = base.copy()
        pos[moved] += bond * (factor - 1)
        frames.append(pos)
    return frames


def _hops(given: Arrays, name: str, base: Floats) -> list[Floats]:
    frames = []
    for share in WAY:
        pos = base.copy()
        for proton, here, there in given[f"{name}:ways"]:
            line = base[there] - base[here]
            length = np.linalg.norm(line)
            distance = SHORTEST + share * (length - 2 * SHORTEST)
            pos[proton] = base[here] + line / length * distance
        frames.append(pos)
    return frames


def _vibrate(make: Make, given: Arrays, there: Arrays | None = None) -> Arrays:
    """Frequencies of each side at its own minimum."""
    del there
    found: Arrays = {}
    for name in names_of(given):
        z = given[f"{name}:z"]
        pos, _, _ = relax(make, z, given[f"{name}:pos"], 0.002, 400)
        found[f"{name}:modes"] = frequencies(make, z, pos)
    return found


def _timed(make: Make, given: Arrays, there: Arrays | None = None) -> Arrays:
    """CPU time of energy and forces, the atoms moving a little from call to call."""
    del there
    found: Arrays = {}
    for name in names_of(given):
        potential, pos = make(given[f"{name}:z"]), given[f"{name}:pos"]
        rng, calls, spent = np.random.default_rng(0), 0, 0.0
        potential(pos)
        while calls < 2 or spent < LONG_ENOUGH:
            moved = pos + 0.005 * rng.normal(size=pos.shape)
            start = time.process_time()
            potential(moved)
            spent += time.process_time() - start
            calls += 1
        found[f"{name}:ms"] = 1000 * spent / calls
    return found


def _of_drugs(given: Arrays, theirs: Arrays, ours: Arrays) -> Arrays:
    rows: Arrays = {}
    for name in names_of(given):
        heavy = given[f"{name}:z"] > 1
        first, second = theirs[f"{name}:pos"], ours[f"{name}:pos"]
        rows[name] = {
            "atoms": len(heavy),
            "rmsd_heavy": rmsd(first[heavy], second[heavy]),
            "rmsd_all": rmsd(first, second),
            "converged": bool(theirs[f"{name}:done"] and ours[f"{name}:done"]),
        }
    return rows


def _of_conformers(given: Arrays, theirs: Arrays, ours: Arrays) -> Arrays:
    rows: Arrays = {}
    for name in lists.FLEXIBLE:
        each = [one for one in names_of(given) if one.startswith(f"{name}/")]
        if not each:
            continue
        rank, own, at = (
            np.array([float(side[f"{one}:{key}"]) for one in each])
            for side, key in ((theirs, "energy"), (ours, "energy"), (ours, "at"))
        )
        wrong = np.abs((at - at.mean()) - (rank - rank.mean()))
        rows[name] = {
            "conformers": len(each),
            "spearman": spearman(rank, own),
            "spearman_at": spearman(rank, at),
            "mae_kcal": KCAL * float(wrong.mean()),
            "range_kcal": KCAL * float(np.ptp(rank)),
        }
    return rows


def _of_torsions(given: Arrays, theirs: Arrays, ours: Arrays) -> Arrays:
    rows: Arrays = {}
    for name in names_of(given):
        first, second = (
            KCAL * (side[f"{name}:curve"] - side[f"{name}:curve"].min())
            for side in (theirs, ours)
        )
        rows[name] = {
            "barrier": float(first.max()),
            "our_barrier": float(second.max()),
            "mae_kcal": float(np.abs(first - second).mean()),
            "angles": ANGLES.tolist(),
            "gfn2": first.tolist(),
            "ours": second.tolist(),
        }
    return rows


def _of_stretches(given: Arrays, theirs: Arrays, ours: Arrays) -> Arrays:
    rows: Arrays = {}
    here = int(np.argmin(np.abs(FACTORS - 1)))
    near = FACTORS <= NEAR
    for name in names_of(given):
        first, second = (
            KCAL * (side[f"{name}:curve"] - side[f"{name}:curve"][here])
            for side in (theirs, ours)
        )
        wrong = np.abs(first - second)
        rows[name] = {
            "mae_near": float(wrong[near].mean()),
            "mae_kcal": float(wrong.mean()),
            "depth": float(first[-1]),
            "our_depth": float(second[-1]),
            "factors": FACTORS.tolist(),
            "gfn2": first.tolist(),
            "ours": second.tolist(),
        }
    return rows


def _of_protons(given: Arrays, theirs: Arrays, ours: Arrays) -> Arrays:
    rows = _of_torsions(given, theirs, ours)
    for row in rows.values():
        del row["angles"]
        row["share"] = WAY.tolist()
    return rows


def _of_modes(given: Arrays, theirs: Arrays, ours: Arrays) -> Arrays:
    rows: Arrays = {}
    for name in names_of(given):
        first, second = theirs[f"{name}:modes"], ours[f"{name}:modes"]
        wrong = np.abs(first - second)
        rows[name] = {
            "modes": len(first),
            "mae": float(wrong.mean()),
            "largest": float(wrong.max()),
            "gfn2": first.tolist(),
            "ours": second.tolist(),
        }
    return rows


def _of_waters(given: Arrays, theirs: Arrays, ours: Arrays) -> Arrays:
    rows: Arrays = {}
    for name in names_of(given):
        count = int(name)
        if count == 1:
            continue
        own, bound, at = (
            KCAL * (float(side[f"{name}:{key}"]) / count - float(side[f"1:{one}"]))
            for side, key, one in (
                (ours, "energy", "energy"),
                (theirs, "energy", "energy"),
                (ours, "at", "at"),
            )
        )
        rows[name] = {"gfn2": bound, "ours": own, "ours_at": at}
    return rows


def _of_times(given: Arrays, theirs: Arrays, ours: Arrays) -> Arrays:
    return {
        name: {
            "gfn2_ms": float(theirs[f"{name}:ms"]),
            "ours_ms": float(ours[f"{name}:ms"]),
        }
        for name in names_of(given)
    }


@dataclass(frozen=True)
class Part:
    """Starts, what both sides compute of them, and how that is compared."""

    starts: Callable[[], Arrays]
    compute: Callable[..., Arrays]
    compare: Callable[[Arrays, Arrays, Arrays], Arrays]


PARTS = {
    "drugs": Part(
        lambda: starts.molecules(lists.DRUGS), _relaxed(0.02, 300), _of_drugs
    ),
    "conformers": Part(starts.conformers, _relaxed(0.05, 120), _of_conformers),
    "torsions": Part(starts.torsions, _scan(_turns), _of_torsions),
    "vibrations": Part(lambda: starts.molecules(lists.VIBRATING), _vibrate, _of_modes),
    "dissociation": Part(starts.stretches, _scan(_pulls), _of_stretches),
    "proton_transfer": Part(starts.protons, _scan(_hops), _of_protons),
    "water": Part(starts.waters, _relaxed(0.02, 300), _of_waters),
    "speed": Part(starts.alkanes, _timed, _of_times),
}
