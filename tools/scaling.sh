#!/usr/bin/env bash
# scaling.sh: the same job on one rank and on several, alone and in teams; prints seconds and speed-ups.
#
#   tools/scaling.sh RANKS BACKEND [MODEL_OPTION...]     e.g. tools/scaling.sh 2 cuda --hidden 2048 --ffn 5632 --blocks 8
#
# MODEL_OPTIONs go to tools/random_model.py, which makes the model and its tokens. Seconds are those from start to end that
# the job itself reports, without MPI's start. With teams of one the files must be equal byte by byte.
# AQLM_BUILD: the build folder [build]; AQLM_RUNS: where model and run directories go [runs]; AQLM_SETTINGS: more settings
# ("tuning.epochs=4 quantizer.rounds=4").
set -euo pipefail

ranks=$1 backend=$2
shift 2
program=${AQLM_BUILD:-build}/aqlm-mpi
runs=${AQLM_RUNS:-runs}/scaling
config=$runs/config.yaml
mkdir -p "$runs"
if [ "$(id -u)" -eq 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

[ -e "$runs/model/config.json" ] || "$(dirname "$0")/random_model.py" "$runs/model" "$@"
shape=$(python3 -c "import numpy, sys; print(*numpy.load(sys.argv[1], mmap_mode='r').shape)" "$runs/model/tokens.npy")
sequences=${shape% *} length=${shape#* }
cat >"$config" <<YAML
model: $runs/model
output: $runs/run
calibration:
  tokens: $runs/model/tokens.npy
  sequences: $sequences
  length: $length
  validation: $((sequences / 8))
quantizer:
  scheme: 2x8
YAML

# job RANKS TEAM: prints the seconds from start to end.
job() {
  local run=$runs/run-$1-$2 options=() setting
  for setting in ${AQLM_SETTINGS:-}; do options+=(--set "$setting"); done
  rm -rf "$run"
  mpirun --bind-to none --oversubscribe -n "$1" "$program" quantize "$config" --backend "$backend" --output "$run" \
    --progress plain --set run.team_size="$2" "${options[@]}" >"$run.log" 2>&1 || { tail -n 20 "$run.log" >&2; exit 1; }
  awk '/^start to end/ { print $NF }' "$run.log"
}

# show RANKS TEAM SECONDS
show() {
  awk -v ranks="$1" -v team="$2" -v one="$one" -v seconds="$3" \
    'BEGIN { printf "%5d %9d %9.1f %9.2f\n", ranks, team, seconds, one / seconds }'
}

errors_of() { awk '/^block  *error/{on = 1; next} !NF{on = 0} on{printf "%s ", $2}' "$runs/run-$1.log"; }

one=$(job 1 1)
printf '%5s %9s %9s %9s\n' ranks team_size seconds speed-up
show 1 1 "$one"
show "$ranks" 1 "$(job "$ranks" 1)"
cmp "$runs/run-1-1/model.aqlm.h5" "$runs/run-$ranks-1/model.aqlm.h5" && echo "      (the same bytes as one rank's)"
show "$ranks" "$ranks" "$(job "$ranks" "$ranks")"
for run in 1-1 "$ranks-1" "$ranks-$ranks"; do
  printf 'block errors, %s: %s\n' "$run" "$(errors_of "$run")"
done
