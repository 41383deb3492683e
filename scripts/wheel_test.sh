#!/usr/bin/env bash
# Build the source archive and the wheel, install the wheel into a fresh environment
# and run the tests there, in a folder that does not hold the source.
#   wheel_test.sh PYTHON [PYTEST_ARGUMENT...]
# The fresh environment borrows the installed dependencies of PYTHON's, which saves
# minutes; only their folder is borrowed, not the editable install of this package.
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
shift
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 || {
    cat "$work/build.log" >&2
    exit 1
}
ls -l "$work/dist"

"$python" -m venv --without-pip "$work/venv"
fresh=$work/venv/bin/python
purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
"$python" -c "$purelib" >"$("$fresh" -c "$purelib")/borrowed.pth"
"$python" -m pip --disable-pip-version-check --python "$fresh" install --quiet \
    --no-deps --ignore-installed "$work"/dist/*.whl

mkdir "$work/copy"
for name in pyproject.toml README.md tests examples docs scripts; do
    if [ -e "$root/$name" ]; then
        cp -r "$root/$name" "$work/copy/$name"
    fi
done
if [ -d "$root/../shared" ]; then
    ln -s "$(cd "$root/../shared" && pwd)" "$work/shared"
fi
cd "$work/copy"
"$fresh" -c '
import pathlib, sys, torch_cormorant
place = pathlib.Path(torch_cormorant.__file__)
print("testing", place.parent)
sys.exit(pathlib.Path(sys.prefix) not in place.parents)'
"$fresh" -m pytest "$@"
