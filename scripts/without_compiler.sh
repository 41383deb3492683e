#!/usr/bin/env bash
# Install a wheel into an empty environment and run kernel and command there, with no
# compiler on the path. Installed dependencies are borrowed from PYTHON's environment.
#   without_compiler.sh PYTHON WHEEL
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
wheel=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
work=$(mktemp -d)
path=$PATH
trap 'PATH=$path; rm -rf "$work"' EXIT
"$python" -m venv --without-pip "$work/venv"
fresh=$work/venv/bin/python
purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
"$python" -c "$purelib" >"$("$fresh" -c "$purelib")/borrowed.pth"
"$python" -m pip --disable-pip-version-check --python "$fresh" install --quiet \
    --no-deps --ignore-installed "$wheel"
cd "$work"
export PATH="$work/venv/bin"
unset CXX
"$fresh" - <<'END'
import pathlib
import sys

import torch

import torch_cormorant
from torch_cormorant import Cormorant, pretrained
from torch_cormorant.interfaces.native import NativePotential
from torch_cormorant.ops import cpu_kernel, fused
from torch_cormorant.testing import random_molecule

if pathlib.Path(sys.prefix) not in pathlib.Path(torch_cormorant.__file__).parents:
    sys.exit(f"{torch_cormorant.__file__} is not the wheel's")
if cpu_kernel.problem():
    sys.exit(f"no kernel: {cpu_kernel.problem()}")
z, pos = random_molecule(8)
model = Cormorant.potential().double().eval()
result = model.evaluate(z, pos)
with fused.enabled(False):
    torch.testing.assert_close(model.evaluate(z, pos).forces, result.forces)
native = NativePotential(model).evaluate(z, pos)
torch.testing.assert_close(native.forces, result.forces)
water = torch.tensor([[0.0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
for name in pretrained():
    found = pretrained(name).predict(torch.tensor([8, 1, 1]), water)
    print(f"{name}: {found}")
print("kernel and evaluator run:", cpu_kernel.instruction_set())
END
cormorant backends
cormorant models
printf '3\n\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n' >water.xyz
cormorant predict organic-gfn2 water.xyz
