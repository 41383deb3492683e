#!/usr/bin/env bash
# The native evaluator compiled for 64-bit ARM, and energy and forces of water by it under
# qemu, beside those of this machine.
#   bash scripts/aarch64.sh PYTHON
# AARCH64_CXX and AARCH64_RUN name other commands than aarch64-linux-gnu-g++ and
# qemu-aarch64; a part that is not there is skipped by name.
set -euo pipefail
python=$1
cd "$(dirname "$0")/.."
read -r -a compiler <<<"${AARCH64_CXX:-aarch64-linux-gnu-g++}"
read -r -a runner <<<"${AARCH64_RUN:-qemu-aarch64}"
if ! command -v "${compiler[0]}" >/dev/null; then
    echo "SKIPPED: aarch64, there is no ${compiler[0]}"
    exit 0
fi
source=torch_cormorant/csrc/native
folder=build/aarch64
mkdir -p "$folder"
flags=(-O2 -std=c++17 -pthread -DVECTOR_BYTES=16 -DISA=baseline)
"${compiler[@]}" "${flags[@]}" -fno-math-errno -fno-trapping-math \
    -c "$source/kernels.cpp" -o "$folder/kernels.o"
"${compiler[@]}" "${flags[@]}" -static -I"$source" "$source/cormorant.cpp" \
    "$source/alone.cpp" -x c++ examples/native/water.c -x none "$folder/kernels.o" \
    -o "$folder/water"
echo "compiled $folder/water by ${compiler[0]}"
if ! command -v "${runner[0]}" >/dev/null; then
    echo "SKIPPED: running it, there is no ${runner[0]}"
    exit 0
fi
"$python" - "$folder" "${runner[@]}" <<'PYTHON'
import subprocess
import sys

import numpy as np

from torch_cormorant import Cormorant
from torch_cormorant.interfaces.native import NativePotential

folder, *runner = sys.argv[1:]
water = [[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]]
for options in ({}, {"complex": False, "lmax": 3, "paths": "all"}, {"gate": True}):
    native = NativePotential(Cormorant.potential([1, 8], **options).double())
    native.save(f"{folder}/model.cormorant")
    command = [*runner, f"{folder}/water", f"{folder}/model.cormorant"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    first, *rest = said.splitlines()
    found = np.array([[float(x) for x in line.split()] for line in rest])
    wanted = native.evaluate([8, 1, 1], water)
    error = np.abs(found - wanted.forces.numpy()).max()
    print(f"{options}: energy {first}, forces differ by {error:.1e}")
    assert abs(float(first.split()[0]) - float(wanted.energy)) < 1e-12
    assert 0 < np.abs(found).max() and error < 1e-12
PYTHON
