#!/usr/bin/env bash
# Compile packages against the torch of an environment and keep the wheels.
#   extensions.sh PYTHON CACHE REQUIREMENT...   builds what is missing
#   extensions.sh PYTHON CACHE                  prints the folder of the wheels
# The folder is named after torch and Python, because a wheel fits no other.
set -euo pipefail
python=$1 cache=$2
shift 2
tag=$("$python" -c 'import sys, torch
print(f"torch-{torch.__version__}-cp{sys.version_info[0]}{sys.version_info[1]}")')
folder=$cache/$tag
if [ $# -eq 0 ]; then
    echo "$folder"
    exit 0
fi
mkdir -p "$folder"
pip=("$python" -m pip --disable-pip-version-check)
for requirement in "$@"; do
    name=${requirement%%==*}
    if compgen -G "$folder/${name//-/_}-${requirement##*==}-*.whl" >/dev/null; then
        continue
    fi
    echo "building $requirement (several minutes)"
    # The two packages import torch and pkg_resources in their setup.py: no isolation,
    # and a setuptools that still has pkg_resources.
    "${pip[@]}" install --quiet ninja "setuptools>=77.0.3,<82" wheel
    "${pip[@]}" wheel --quiet --no-deps --no-build-isolation --no-cache-dir \
        --wheel-dir "$folder" "$requirement"
done
