#!/usr/bin/env bash
# What others read: h5py, transformers 4.57 and 5 with the aqlm package open what the program wrote.
#
#   run.sh PROGRAM WORK_FOLDER
#
# Makes a virtual environment in WORK_FOLDER, once; AQLM_INTEROP_VENV names a ready one instead (and
# AQLM_INTEROP_TRANSFORMERS5 a folder with transformers 5). Exits with 77 (skipped) and says why
# where the packages cannot be installed.
set -euo pipefail
program=$(realpath "$1")
mkdir -p "$2"
work=$(realpath "$2")
here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../..")
environment=${AQLM_INTEROP_VENV:-$work/venv}
overlay=${AQLM_INTEROP_TRANSFORMERS5:-$work/transformers5}
python=$environment/bin/python
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

skip() { echo "skipped: $*"; exit 77; }

# The CPU build of PyTorch is a tenth of the size of the one for GPUs.
install_torch() {
  "$python" -m pip install -q torch==2.13.0+cpu 2>/dev/null ||
    "$python" -m pip install -q --index-url https://download.pytorch.org/whl/cpu torch==2.13.0 2>/dev/null ||
    "$python" -m pip install -q torch==2.13.0
}

make_environment() {
  [ -x "$python" ] && { [ -n "${AQLM_INTEROP_VENV:-}" ] || [ -e "$environment/complete" ]; } && return
  rm -rf "$environment"
  command -v python3 >/dev/null || skip "no python3"
  python3 -m venv "$environment" >"$work/pip.log" 2>&1 || skip "python3 -m venv failed (package python3-venv?)"
  { install_torch && "$python" -m pip install -q -r "$here/requirements.txt"; } >>"$work/pip.log" 2>&1 ||
    skip "PyTorch, transformers or aqlm cannot be installed: $(tail -n 1 "$work/pip.log")"
  touch "$environment/complete"
}

make_overlay() {
  [ -d "$overlay/transformers" ] && return
  rm -rf "$overlay.partial"
  "$python" -m pip install -q --target "$overlay.partial" -r "$here/requirements-transformers5.txt" \
    >>"$work/pip.log" 2>&1 || return
  mv "$overlay.partial" "$overlay"
}

# quantize NAME MODEL TOKENS [key=value ...]: a quick quantization, gathered and exported.
quantize() {
  local name=$1 model=$2 tokens=$3 settings=()
  shift 3
  for setting in "model=$model" "calibration.tokens=$tokens" "output=$work/$name" calibration.sequences=8 \
    calibration.validation=2 quantizer.kmeans_iterations=5 quantizer.rounds=1 quantizer.adam_steps=10 \
    tuning.epochs=1 run.backend=cpu "$@"; do settings+=(--set "$setting"); done
  rm -rf "${work:?}/$name" "$work/$name-export"
  (cd "$root" && "$program" quantize configs/tiny.yaml --progress plain "${settings[@]}") >"$work/$name.log" 2>&1 ||
    { cat "$work/$name.log"; exit 1; }
  "$program" export "$work/$name/model.aqlm.h5" --out "$work/$name-export" --shard-size "${shard_size:-5GB}"
}

make_environment
llama=$root/examples/tiny-llama
rope=$root/tests/data/tiny-llama3 # biases, llama3 rope, separate head, float32
"$python" - "$llama/validation.npy" "$work" <<'PYTHON'
import sys
import numpy as np
np.save(sys.argv[2] + "/slice.npy", np.load(sys.argv[1])[:2048])
np.save(sys.argv[2] + "/random.npy", np.random.default_rng(0).integers(0, 29, 1024).astype(np.uint16))
PYTHON
shard_size=600KB quantize tiny "$llama" "$llama/calibration.npy" calibration.length=128
quantize rope "$rope" "$work/random.npy" calibration.length=64 quantizer.scheme=2x4 quantizer.group=4

"$python" "$here/check_h5py.py" "$work/tiny/model.aqlm.h5" "$work/tiny-export" "$llama"
"$python" "$here/check_h5py.py" "$work/rope/model.aqlm.h5" "$work/rope-export" "$rope"
models=("$work/tiny" "$work/slice.npy" 128 "$work/rope" "$work/random.npy" 64)
"$python" "$here/check_transformers.py" "$program" "${models[@]}"
make_overlay
[ -d "$overlay/transformers" ] ||
  skip "transformers 5 cannot be installed (the checks with 4.57 passed): $(tail -n 1 "$work/pip.log")"
PYTHONPATH=$overlay "$python" "$here/check_transformers.py" "$program" "${models[@]}"
