#!/usr/bin/env bash
# Holds `aqlm-mpi plan` against the measured peaks of real runs: within 10 %.
#
#   tests/check_plan.sh PROGRAM BACKEND SHARED [all]
#
# SHARED holds models/ and tokens/ (the project's test models). Peaks do not depend on how often anything is repeated, so
# the runs repeat nothing. "all" adds the recipe's 256 x 512 tokens, which take minutes on a CPU. Exit status 77: skipped.
set -u
program=$1 backend=$2 shared=$3 all=${4:-}
root=$(cd "$(dirname "$0")/.." && pwd)
skip() { echo "skipped: $*"; exit 77; }
[ -r "$shared/models/docs-llama-1m/config.json" ] || skip "no test models in $shared"
command -v python3 >/dev/null || skip "no python3"
if [ "$backend" = cuda ]; then
    "$program" bench layer --backend cuda --input "$root/tests/data/layer.h5" --scheme 2x4 --rounds 1 >/dev/null 2>&1 ||
        skip "no GPU"
fi
source "$root/tests/scratch.sh"
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
failures=0

# check MODEL SEQUENCES LENGTH [RANKS TEAM_SIZE]
check() {
    local run=$work/$1-$2-$3-${4:-1}-${5:-1} launch=()
    [ -z "${4:-}" ] || launch=(mpirun -n "$4" --bind-to none --oversubscribe)
    local job=("$root/configs/$1.yaml" --backend "$backend"
        --set model="$shared/models/$1" --set calibration.tokens="$shared/tokens/calib.npy" --set output="$run"
        --set calibration.sequences="$2" --set calibration.length="$3" --set calibration.validation=$(($2 / 8))
        --set quantizer.rounds=1 --set quantizer.kmeans_iterations=1 --set quantizer.kmeans_starts=1
        --set quantizer.adam_steps=1 --set tuning.epochs=1
        --set run.team_size="${5:-1}")
    "$program" plan "${job[@]}" --ranks "${4:-1}" --json >"$run.json" || { echo "plan failed for $1"; failures=$((failures + 1)); return; }
    "${launch[@]}" "$program" quantize "${job[@]}" --quiet >/dev/null || { echo "quantize failed for $1"; failures=$((failures + 1)); return; }
    python3 - "$1, $2 x $3 tokens${4:+, $4 ranks in teams of $5}" "$run.json" "$run/metrics.jsonl" <<'P' || failures=$((failures + 1))
import json, sys
name, plan_path, metrics_path = sys.argv[1:]
plan = json.load(open(plan_path))
blocks = [e for e in map(json.loads, open(metrics_path)) if e["event"] == "block"]
failed = not blocks
for key in ("peak_memory", "peak_device_memory"):
    measured = max((e[key] for e in blocks if e.get(key)), default=None)
    if measured is None or plan[key] is None:
        failed |= plan[key] is not None
        continue
    apart = plan[key] / measured - 1
    print(f"{name}: {key} {plan[key] / 1e6:.1f} MB planned, {measured / 1e6:.1f} measured ({100 * apart:+.1f} %)")
    failed |= abs(apart) > 0.1
sys.exit(failed)
P
}

check docs-llama-1m 32 256
check docs-llama-16m 8 512
if [ "$backend" = cpu ] && command -v mpirun >/dev/null; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    check docs-llama-1m 64 256 2 1
    check docs-llama-1m 64 256 2 2
fi
if [ -n "$all" ]; then
    check docs-llama-1m 256 512
    check docs-llama-16m 256 512
fi
# The rates of this machine are numbers above 0 that plan takes.
"$program" bench rates --backend "$backend" --out "$work/rates.json" >/dev/null &&
    "$program" plan "$root/configs/docs-llama-1m.yaml" --rates "$work/rates.json" --backend "$backend" \
        --set model="$shared/models/docs-llama-1m" --set output="$work/run" | grep -q 'start to end' ||
    { echo "bench rates, or a plan with its rates, failed"; failures=$((failures + 1)); }
exit $((failures > 0))
