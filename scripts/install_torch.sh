#!/usr/bin/env bash
# Install torch into an environment: a CPU build where there is no NVIDIA GPU.
#   install_torch.sh PYTHON REQUIREMENT auto|cpu|gpu CPU_INDEX
set -euo pipefail
python=$1 requirement=$2 device=$3 index=$4
pip=("$python" -m pip --disable-pip-version-check install --quiet)

if [ "$device" = auto ]; then
    device=cpu
    if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
        device=gpu
    fi
fi
echo "installing $requirement ($device build)"

case $device in
gpu)
    exec "${pip[@]}" "$requirement"
    ;;
cpu) ;;
*)
    echo "DEVICE must be auto, cpu or gpu, not '$device'" >&2
    exit 2
    ;;
esac

# The default index of macOS has CPU builds only.
if [ "$(uname -s)" = Darwin ]; then
    exec "${pip[@]}" "$requirement"
fi
# A CPU build among the wheels that pip is configured to see.
case $requirement in
*==*+*) ;;
*==*)
    if "${pip[@]}" "$requirement+cpu" 2>/dev/null; then
        exit 0
    fi
    ;;
esac
# The index of the CPU builds; a short time limit, because it may be out of reach.
if "${pip[@]}" --retries 1 --timeout 30 --index-url "$index" "$requirement"; then
    exit 0
fi
echo "no CPU build of $requirement at $index: taking the default build, which is" >&2
echo "larger but runs on a CPU too (TORCH_INDEX=... names another index)" >&2
exec "${pip[@]}" "$requirement"
