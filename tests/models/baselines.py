"""Numbers that must not change unnoticed, and the command that writes them anew.

    python tests/models/baselines.py

prints what changed and writes ``baselines.json``. Weights and molecules are formulas,
so nothing depends on a random number generator.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from torch_cormorant import Cormorant, CormorantMD17, CormorantQM9

FILE = Path(__file__).with_name("baselines.json")
CONFIGURATIONS: dict[str, tuple[type[Cormorant], dict[str, Any]]] = {
    "qm9": (CormorantQM9, {}),
    "qm9_solid": (CormorantQM9, {"harmonics": "solid", "channels": 4}),
    "md17": (CormorantMD17, {}),
    "cormorant": (Cormorant, {"channels": 4}),
    "normalised": (Cormorant, {"channels": 4, "norm": "norm", "gate": True}),
    "even": (Cormorant, {"channels": 4, "paths": "even", "head": "extensive"}),
    "real": (Cormorant, {"channels": 4, "complex": False, "input": "linear"}),
    "gaussian": (
        Cormorant,
        {"channels": 4, "radial": "gaussian", "gaussian_mask": True},
    ),
    "hard": (Cormorant, {"channels": 4, "cutoff_type": ("hard", "learn"), "lmax": 2}),
}


@torch.no_grad()
def fill(model: Cormorant) -> None:
    """Weights of the size of an ordinary start, from a sine."""
    for number, (name, parameter) in enumerate(model.named_parameters()):
        count = parameter.numel()
        wave = torch.sin(torch.arange(1, count + 1, dtype=torch.float64) * (number + 1))
        wave = wave.view(parameter.shape)
        if name.endswith("bias"):
            parameter.copy_(0.1 * wave)
        elif "weight" in name and parameter.ndim > 1:
            parameter.copy_(wave / parameter.shape[-1] ** 0.5)
        else:  # frequencies, phases, radii and widths start from fixed values
            parameter.add_(0.1 * wave)


def molecule() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two helices of carbon, oxygen and hydrogen."""
    step = torch.arange(11, dtype=torch.float64)
    angle = 1.9 * step
    pos = torch.stack([angle.cos(), angle.sin(), 0.45 * step + 0.1 * angle.sin()], 1)
    z = torch.tensor([6, 8, 1] * 4)[:11]
    return z, pos, torch.tensor([0] * 7 + [1] * 4)


def numbers(name: str) -> dict[str, list[float]]:
    """Energies, forces and size of every level."""
    kind, options = CONFIGURATIONS[name]
    model = kind(**options).double().eval()
    fill(model)
    z, pos, batch = molecule()
    energy, forces = model.energy_and_forces(z, pos, batch)
    with torch.no_grad():
        _, levels = model(z, pos, batch, return_levels=True)
    sizes = [float(level.square().sum().sqrt()) for level in levels]
    if not all(map(math.isfinite, [*energy.tolist(), *sizes])):
        message = f"{name} is not finite"
        raise ValueError(message)
    return {
        "energy": energy.tolist(),
        "forces": forces.flatten().tolist(),
        "levels": sizes,
    }


def main() -> None:
    """Write all numbers and print what changed."""
    old = json.loads(FILE.read_text()) if FILE.exists() else {}
    new = {name: numbers(name) for name in CONFIGURATIONS}
    for name, values in new.items():
        before = old.get(name)
        if before is None:
            print(f"{name}: new")  # noqa: T201
            continue
        for key, found in values.items():
            scale = max(map(abs, found)) or 1.0
            pairs = zip(found, before[key], strict=True)
            change = max(abs(a - b) for a, b in pairs) / scale
            print(f"{name} {key}: relative change {change:.1e}")  # noqa: T201
    FILE.write_text(json.dumps(new, indent=1) + "\n")


if __name__ == "__main__":
    main()
