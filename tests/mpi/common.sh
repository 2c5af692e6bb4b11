# What the scripts of this folder share: ranks, run directories, assertions. Sourced with the program's path as $1.
set -uo pipefail
program=$1
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
source tests/scratch.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
export ASAN_OPTIONS=detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS} # Open MPI leaks at its end
export TMPDIR=$folder # short: Open MPI's sockets live there
failures=0

# quantize RANKS RUN [OPTION]...: a small job on the example; its output in $folder/RUN.log, its exit status returned.
quantize() {
  local ranks=$1 run=$2
  shift 2
  timeout 120 mpirun --bind-to none --oversubscribe -n "$ranks" "$program" quantize configs/tiny.yaml --output "$folder/$run" \
    --backend cpu --set calibration.sequences=12 --set calibration.length=64 --set calibration.validation=4 \
    --set quantizer.scheme=2x4 --set quantizer.rounds=1 --set quantizer.kmeans_iterations=3 --set quantizer.adam_steps=5 \
    --set tuning.epochs=1 "$@" >"$folder/$run.log" 2>&1
}

# check "statement" COMMAND...: the command must succeed.
check() {
  local statement=$1
  shift
  if "$@"; then echo "passed: $statement"; else echo "FAILED: $statement"; failures=$((failures + 1)); fi
}

fails() { ! "$@"; }

# wait_for FILE: until something matches the pattern, at most 60 s.
wait_for() {
  for _ in $(seq 600); do
    compgen -G "$1" >/dev/null && return 0
    sleep 0.1
  done
  return 1
}

# processes NAME RUN: the numbers of a job's processes of that name, in the order of their start.
processes() {
  pgrep -f "quantize.*$folder/$2 " | sort -n | while read -r id; do
    if [ "$(cat /proc/"$id"/comm 2>/dev/null)" = "$1" ]; then echo "$id"; fi
  done
}

# Exit status 1, not a timeout's 124 or a signal's.
ends_with_1() {
  "$@"
  [ $? = 1 ]
}

same() { cmp -s "$folder/$1" "$folder/$2"; }

says() { grep -q -- "$2" "$folder/$1.log"; }

# Rank 0 alone prints the error, once.
one_error() { [ "$(grep -c '^aqlm-mpi: error: ' "$folder/$1.log")" = 1 ]; }

# spoil_weight FOLDER: NaN (0x7fc0 as bfloat16) into a weight of block 2 of this copy of the example.
spoil_weight() {
  local weights=$1/model.safetensors header offset
  header=$(od -An -t u8 -N 8 "$weights" | tr -d ' ')
  offset=$(head -c $((header + 8)) "$weights" | grep -ao '"model.layers.2.mlp.up_proj.weight":{[^}]*' | sed 's/.*"data_offsets":\[\([0-9]*\).*/\1/')
  printf '\xc0\x7f' | dd of="$weights" bs=1 seek=$((8 + header + offset + 20000)) conv=notrunc status=none
}

finish() {
  if [ "$failures" != 0 ]; then tail -n 30 "$folder"/*.log; fi
  exit $((failures > 0))
}
