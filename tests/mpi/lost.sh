#!/usr/bin/env bash
# A member of a team is lost while the other one works with it, on a GPU each inside NCCL (needs two): the job ends soon, says
# who is lost, and goes on to the same bytes.   lost.sh PROGRAM [cpu|cuda]
source "$(dirname "$0")/common.sh" "$1"
backend=${2:-cpu}
if [ "$backend" = cuda ]; then
  export NCCL_NVLS_ENABLE=0
  if [ "$(nvidia-smi -L 2>/dev/null | wc -l)" -lt 2 ]; then
    echo "skipped: needs two GPUs"
    exit 77
  fi
fi

long=(--backend "$backend" --set run.team_size=2 --set quantizer.rounds=25 --set quantizer.tolerance=0
  --set tuning.epochs=40 --set tuning.patience=99 --set tuning.learning_rate=1e-5 --set run.silence_seconds=3)
launcher=()
export folder
# Each rank's exit status goes to a file: an mpirun that ends no others tells none.
# shellcheck disable=SC2016
told='"$0" "$@"; status=$?; echo $status >"$folder/status-$OMPI_COMM_WORLD_RANK"; exit $status'

# job RUN: a team of two ranks.
job() {
  timeout 120 mpirun --bind-to none --oversubscribe "${launcher[@]}" -n 2 bash -c "$told" "$program" quantize configs/tiny.yaml --output "$folder/$1" \
    --set calibration.sequences=12 --set calibration.length=64 --set calibration.validation=4 --set quantizer.scheme=2x4 \
    --set quantizer.kmeans_iterations=3 "${long[@]}" >"$folder/$1.log" 2>&1
}

# member RUN: the process of rank 1.
member() {
  for id in $(processes aqlm-mpi "$1"); do
    if grep -qz '^OMPI_COMM_WORLD_RANK=1$' "/proc/$id/environ"; then echo "$id"; fi
  done
}

# lose RUN SIGNAL FILE: rank 1 gets the signal once FILE of block 1 is there. Afterwards $result and $took.
lose() {
  { job "$1" & } 2>/dev/null
  local id=$! lost
  wait_for "$folder/$1/work/block-0001/$3" || return 1
  lost=$(member "$1")
  [ -n "$lost" ] || return 1
  local start=$SECONDS
  kill "-$2" "$lost"
  { wait $id; } 2>/dev/null
  result=$?
  took=$((SECONDS - start))
}

ends_with() { [ "$result" = "$1" ] && [ "$took" -le 12 ]; }
goes_on() { job "$1" && same whole/model.aqlm.h5 "$1/model.aqlm.h5"; }

check "a team runs undisturbed" job whole
silent=(self_attn.k_proj.h5 tuning.state)
if [ "$backend" = cpu ]; then silent=(); fi # as in hangs.sh
for file in "${silent[@]}"; do
  run=stopped-$file
  lose "$run" STOP "$file"
  check "a job whose member falls silent at $file ends with 1" ends_with 1
  check "... naming it" says "$run" "error: rank 1 on host $(hostname) was not heard of for [0-9]* s"
  check "... and goes on to the same bytes" goes_on "$run"
done

# mpirun ends all ranks when one dies, other launchers leave that to them, as it does if asked to.
lose killed KILL tuning.state
check "a job whose member is killed ends" [ "$result" != 0 -a "$took" -le 12 ]
check "... and goes on to the same bytes" goes_on killed
launcher=(--enable-recovery)
lose alone KILL tuning.state
check "a member that is left alone ends with 1" [ "$(cat "$folder/status-0")" = 1 -a "$took" -le 12 ]
check "... which the events tell" grep -q '"event":"end".*rank 1 on host' "$folder/alone/metrics.jsonl"
check "... naming the one that was killed" says alone "error: rank 1 on host $(hostname) was not heard of for [0-9]* s"
launcher=()
check "... and the job goes on to the same bytes" goes_on alone
finish
