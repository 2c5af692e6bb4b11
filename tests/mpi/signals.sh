#!/usr/bin/env bash
# A request to stop: all ranks leave in order with exit status 75, and the same command goes on to the same bytes.
source "$(dirname "$0")/common.sh" "$@"

long=(--set quantizer.rounds=30 --set tuning.epochs=4 --set tuning.patience=9)

# stopped RANKS RUN SIGNAL NAME: SIGNAL to mpirun, or to the last of the ranks (aqlm-mpi), once a block is finished.
# Afterwards $result is the job's exit status and $took the seconds from the signal to it.
stopped() {
  quantize "$1" "$2" "${long[@]}" &
  local job=$! start
  wait_for "$folder/$2/blocks/block-0000.h5"
  start=$SECONDS
  kill -"$3" "$(processes "$4" "$2" | tail -n 1)" || return 1
  wait $job
  result=$?
  took=$((SECONDS - start))
}

ends_75_soon() { [ "$result" = 75 ] && [ "$took" -le 10 ]; }

check "a job runs undisturbed" quantize 2 whole "${long[@]}"

# goes_on RUN: the same command, 1 to 3 ranks, to the same bytes.
goes_on() {
  check "... the job goes on" quantize 2 "$1" "${long[@]}"
  check "... keeping what was finished" says "$1" 'of 4 blocks are finished already'
  check "... to the same bytes" same whole/model.aqlm.h5 "$1/model.aqlm.h5"
}

for signal in USR1 TERM INT; do
  stopped 2 one-$signal $signal aqlm-mpi
  check "SIG$signal to one rank ends all with 75" ends_75_soon
  check "... and the last line says how to go on" says one-$signal "^aqlm-mpi: stopped .*; to go on: mpirun -n 2 .*quantize configs/tiny.yaml --output"
  check "... and the events tell what each rank's time went into" [ "$(grep -c '"event":"rank"' "$folder/one-$signal/metrics.jsonl")" = 2 ]
  check "... without temporary files" [ -z "$(find "$folder/one-$signal" -name '*.partial')" ]
  goes_on one-$signal
done
stopped 3 usr1 USR1 mpirun
check "SIGUSR1 to mpirun ends all with 75" ends_75_soon
goes_on usr1
stopped 2 term TERM mpirun
check "SIGTERM to mpirun ends the job" [ "$result" != 0 ]
goes_on term
finish
