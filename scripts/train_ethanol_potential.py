"""Train the small ethanol potential of the examples, in five minutes of one core.

    python scripts/train_ethanol_potential.py --out ethanol.safetensors

From 950 frames of the embedded set (500 K) and those of ``generate_hot_ethanol.py``,
without which the molecule comes apart at 1,000 K. The weights in ``examples/models``
and ``tests/fixtures`` come from this recipe. Numbers of a new run differ in the last
digits; the laws tested do not.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import huber_loss
from torch_geometric.data import Batch, Data

from torch_cormorant import Cormorant
from torch_cormorant.data import MiniEthanol
from torch_cormorant.models import CormorantPotential, save_model

HOT = Path(__file__).parents[1] / "examples" / "models" / "ethanol_hot.npz"
TRAINING, BATCH, LEARNING_RATE, DECAY = 950, 10, 8e-3, 0.998
ENERGY_WEIGHT = 0.02
MAX_FORCE = 20.0  # eV/Angstrom; frames with larger ones are left to the repulsion
HELD_OUT = 10  # every tenth hot frame


def make_model(frames: Batch) -> CormorantPotential:
    """A new potential with references and scale of the training frames."""
    model = Cormorant.potential(
        [1, 6, 8], size="complex", num_levels=2, repulsion="zbl"
    )
    counts = torch.tensor([[6.0, 2.0, 1.0]], dtype=torch.float64)
    mean = frames.energy.mean().view(1, 1)
    found = torch.linalg.lstsq(counts, mean, driver="gelsd").solution.flatten()
    references = dict(zip((1, 6, 8), found.tolist(), strict=True))
    return model.set_units(references, float(frames.forces.square().mean().sqrt()))


def loss_of(model: CormorantPotential, frames: Batch) -> Tensor:
    """Squared errors of forces and energies, in units of the forces' spread."""
    scale = model.info.normalisation.std[0]
    energy, forces = model.energy_and_forces(frames.z, frames.pos.float(), frames.batch)
    of_forces = huber_loss(forces.double() / scale, frames.forces / scale)
    of_energies = huber_loss(energy / scale, frames.energy / scale)
    return of_forces + ENERGY_WEIGHT * of_energies


def hot_frames() -> dict[str, list[Data]]:
    """Frames of every kind in the file, without those of very large forces."""
    with np.load(HOT) as arrays:
        z = torch.from_numpy(arrays["z"]).long()
        pos, energy, forces = (
            torch.from_numpy(arrays[name]).double()
            for name in ("pos", "energy", "forces")
        )
        kinds = arrays["kind"].tolist()
    found: dict[str, list[Data]] = {}
    for k, kind in enumerate(kinds):
        if float(forces[k].norm(dim=1).max()) <= MAX_FORCE:
            frame = Data(z=z, pos=pos[k], energy=energy[k : k + 1], forces=forces[k])
            found.setdefault(kind, []).append(frame)
    return found


def errors_of(model: CormorantPotential, frames: list[Data]) -> tuple[float, float]:
    """Mean absolute errors in meV and meV/Angstrom."""
    test = Batch.from_data_list(frames)
    energy, forces = model.energy_and_forces(test.z, test.pos, test.batch)
    wrong = (energy - test.energy).abs().mean(), (forces - test.forces).abs().mean()
    return 1e3 * float(wrong[0]), 1e3 * float(wrong[1])


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--out", default="ethanol.safetensors")
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dataset = MiniEthanol()
    order = torch.randperm(len(dataset)).tolist()
    frames = [dataset[k] for k in order]
    model = make_model(Batch.from_data_list(frames[:TRAINING])).train()
    hot, training = hot_frames(), frames[:TRAINING]
    for some in hot.values():
        training += [frame for k, frame in enumerate(some) if k % HELD_OUT]
    average = copy.deepcopy(model)
    adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, amsgrad=True)
    for step in range(given.steps):
        rate = 0.5 * (1 + math.cos(math.pi * step / given.steps)) + 0.005
        adam.param_groups[0]["lr"] = LEARNING_RATE * rate * min(1, (step + 1) / 100)
        chosen = torch.randint(len(training), (BATCH,)).tolist()
        loss = loss_of(model, Batch.from_data_list([training[k] for k in chosen]))
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        with torch.no_grad():
            pairs = zip(average.parameters(), model.parameters(), strict=True)
            for old, new in pairs:
                old.lerp_(new, 1 - min(DECAY, (1 + step) / (10 + step)))
        if step % 100 == 0:
            print(f"step {step}: loss {float(loss.detach()):.4f}", flush=True)
    tests = {"500 K": frames[-1000:]}
    tests |= {kind: some[::HELD_OUT] for kind, some in hot.items()}
    errors = {}
    for kind, some in tests.items():
        found = errors_of(average.eval(), some)
        errors[f"{kind}: energy_mae_meV"], errors[f"{kind}: force_mae_meV_per_A"] = (
            found
        )
    print(errors)
    record = {"steps": given.steps, **errors, "compositions": dataset.compositions()}
    save_model(given.out, average, training=record)


if __name__ == "__main__":
    main()
