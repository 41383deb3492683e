#!/usr/bin/env bash
# The states by which torch-sim tests its own models, with this package installed in an
# environment of its own: torch-sim 0.6 needs Python 3.12.
#   torch_sim_suite.sh PYTHON3.12 FOLDER TORCH_REQUIREMENT auto|cpu|gpu CPU_INDEX
# The environment is kept in FOLDER; the package is installed anew in every run.
set -euo pipefail
wanted=$1 torch=$3 device=$4 index=$5
root=$(cd "$(dirname "$0")/.." && pwd)
torch_sim="torch-sim-atomistic>=0.6,<0.7"

is_312() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null
}
# A command of pyenv answers only when a version is chosen.
if ! is_312 "$wanted" && command -v pyenv >/dev/null; then
    PYENV_VERSION=$(pyenv versions --bare | grep -E '^3\.12\.[0-9]+$' | tail -n 1) || true
    export PYENV_VERSION
fi
if ! is_312 "$wanted"; then
    echo "=== SKIPPED: torch-sim's own states, $wanted is no Python 3.12"
    echo "    (make torch-sim PYTHON312=... names one)"
    exit 0
fi

mkdir -p "$2"
folder=$(cd "$2" && pwd)
python=$folder/bin/python
if [ ! -e "$folder/.ready" ]; then
    "$wanted" -m venv --clear "$folder"
    bash "$root/scripts/install_torch.sh" "$python" "$torch" "$device" "$index"
    "$python" -m pip --disable-pip-version-check install --quiet \
        "$torch_sim" ase hypothesis matplotlib pytest safetensors tqdm
    touch "$folder/.ready"
fi
rm -rf "$root"/build/lib* "$root"/build/bdist*  # no file of an older build
"$python" -m pip --disable-pip-version-check install --quiet --upgrade \
    --force-reinstall --no-deps "$root"
# what it depends on, where that is not there yet
"$python" -m pip --disable-pip-version-check install --quiet torch-cormorant

# in a folder that does not hold the source, so that the installed package is tested
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tests"
cp "$root/pyproject.toml" "$work"
cp "$root/tests/conftest.py" "$work/tests"
cp -r "$root/tests/interfaces" "$work/tests"
cd "$work"
OMP_NUM_THREADS=1 "$python" -m pytest tests/interfaces/test_torch_sim.py \
    tests/interfaces/test_torch_sim_states.py
