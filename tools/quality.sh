#!/usr/bin/env bash
# quality.sh: quantize one recipe with several seeds and print the perplexities, one line a seed and the medians.
#
#   tools/quality.sh CONFIG.yaml BACKEND SEED...      e.g. tools/quality.sh configs/docs-llama-16m.yaml cuda 0 1 2
#
# AQLM_BUILD: the build folder [build]; AQLM_SHARED: the folder that holds models/ and tokens/ [../shared];
# AQLM_RUNS: where run directories go [runs]. Model and tokens are taken by name from AQLM_SHARED, so that the
# recipe's own paths need not exist.
set -euo pipefail

config=$1 backend=$2
shift 2
name=$(basename "$config" .yaml)
program=${AQLM_BUILD:-build}/aqlm-mpi
shared=${AQLM_SHARED:-../shared}
runs=${AQLM_RUNS:-runs}
table=$(mktemp)
trap 'rm -f "$table"' EXIT

json_number() { sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" | head -n 1; }

perplexity() {
  "$program" evaluate "$1" --tokens "$shared/tokens/$2.npy" --seqlen 512 --backend "$backend" --json | json_number perplexity
}

for seed in "$@"; do
  run=$runs/quality-$name-$backend-$seed
  rm -rf "$run"; mkdir -p "$runs"
  begin=$(date +%s.%N)
  "$program" quantize "$config" --backend "$backend" --seed "$seed" --progress plain --set "output=$run" \
    --set "model=$shared/models/$name" --set "calibration.tokens=$shared/tokens/calib.npy" >"$run.log" 2>&1 ||
    { tail -n 5 "$run.log" >&2; exit 1; }
  seconds=$(echo "$(date +%s.%N) $begin" | awk '{printf "%.1f", $1 - $2}')
  bits=$("$program" info "$run/model.aqlm.h5" | awk '/bits per weight/ {print $1}')
  echo "$seed $seconds $bits $(perplexity "$run/model.aqlm.h5" valid) $(perplexity "$run/model.aqlm.h5" wikitext2-test)" >>"$table"
  tail -n 1 "$table" >&2
done

median() { sort -g | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

printf '%-8s %9s %9s %9s %15s\n' seed seconds bits valid wikitext2-test
awk '{printf "%-8s %9.1f %9.4f %9.4f %15.4f\n", $1, $2, $3, $4, $5}' "$table"
printf '%-8s %9.1f %9.4f %9.4f %15.4f\n' median "$(awk '{print $2}' "$table" | median)" "$(awk '{print $3}' "$table" | median)" \
  "$(awk '{print $4}' "$table" | median)" "$(awk '{print $5}' "$table" | median)"
