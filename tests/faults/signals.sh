#!/usr/bin/env bash
# Requests to stop at any phase, to a rank or to mpirun; a second one that ends a job at once; jobs that are suspended. Each goes
# on to the same bytes and makes nothing finished again. AQLM_STOPS=50 takes more moments, AQLM_SEED others.
source "$(dirname "$0")/common.sh" "$@"
settings=("${slow[@]}")
stops=${AQLM_STOPS:-6}
ranks=2
RANDOM=${AQLM_SEED:-1}

milliseconds() { echo $(($(date +%s%N) / 1000000)); }
make_reference
start=$(milliseconds)
check "... and again" together $ranks timed
duration=$(($(milliseconds) - start))

# again_identical RUN TOLD FINISHED: the job goes on as if nothing had happened.
again_identical() {
  together $ranks "$1" && identical "$1" && tidy "$1" && [ "$(redone "$1" "$2" "$3")" = 0 ]
}

# Processes that have MPI and the program's handlers: before, a signal ends them at once.
catching() {
  processes aqlm-mpi "$1" | while read -r id; do
    if [ $((0x$(awk '/^SigCgt/ { print $2 }' /proc/"$id"/status 2>/dev/null || echo 0) & 0x4000)) != 0 ]; then echo "$id"; fi
  done
}

soon=0 whole=0 slowest=0
for trial in $(seq "$stops"); do
  run=stop-$trial
  signals=(USR1 TERM INT)
  signal=${signals[trial % 3]}
  moment=$((RANDOM * duration / 32768))
  quietly together $ranks $run &
  job=$!
  sleep "$((moment / 1000)).$(printf %03d $((moment % 1000)))"
  while kill -0 $job 2>/dev/null && [ "$(catching $run | wc -l)" -lt $ranks ]; do sleep 0.02; done
  mapfile -t found < <(processes aqlm-mpi $run)
  if [ $signal = USR1 ]; then mapfile -t found < <(processes mpirun $run); fi
  start=$(milliseconds)
  if [ ${#found[@]} -gt 0 ]; then quietly kill -$signal "${found[RANDOM % ${#found[@]}]}"; fi
  quietly wait $job
  status=$? took=$(($(milliseconds) - start))
  if [ $took -gt $slowest ]; then slowest=$took; fi
  # A job that had all but ended ends.
  if [ $status = 75 ] || { [ $status = 0 ] && identical $run; }; then soon=$((soon + 1)); else
    echo "SIG$signal after $moment ms: exit status $status"
    tail -n 5 "$folder/$run.log"
  fi
  told=$(events $run) finished=$(finished_blocks $run)
  if again_identical $run "$told" "$finished"; then whole=$((whole + 1)); else echo "SIG$signal after $moment ms: not the same"; fi
  rm -rf "${folder:?}/$run"
done
echo "signals: $soon of $stops ended with 75, $whole of $stops resumed bit-identical; $slowest ms at most from signal to exit"
check "every signalled job ends with 75" [ $soon = "$stops" ]
check "... within 10 s" [ $slowest -le 10000 ]
check "... and goes on to the same bytes" [ $whole = "$stops" ]

# What mpirun does with SIGTERM and Ctrl-C: a second later it kills.
for signal in TERM INT; do
  run=mpirun-$signal
  quietly together $ranks $run &
  job=$!
  wait_for "$folder/$run/blocks/block-????.h5"
  kill -$signal "$(processes mpirun $run)"
  quietly wait $job
  check "SIG$signal to mpirun ends the job" [ $? != 0 ]
  told=$(events $run) finished=$(finished_blocks $run)
  check "... nothing finished is lost" [ -n "$finished" ]
  check "... and it goes on to the same bytes" again_identical $run "$told" "$finished"
done

# A rank that does not move keeps the others from leaving in order.
run=twice
quietly together $ranks $run &
job=$!
wait_for "$folder/$run/blocks/block-????.h5"
mapfile -t found < <(processes aqlm-mpi $run)
kill -STOP "${found[1]}"
kill -TERM "${found[0]}"
sleep 1
kill -TERM "${found[0]}"
sleep 1
check "a second signal within 3 s is the same one" kill -0 "${found[0]}"
sleep 1.5
start=$(milliseconds)
kill -TERM "${found[0]}"
quietly wait $job
check "a second signal after more than 3 s ends the job" [ $? != 75 ]
check "... at once" [ $(($(milliseconds) - start)) -lt 2500 ]
told=$(events $run) finished=$(finished_blocks $run)
check "... and it goes on to the same bytes" again_identical $run "$told" "$finished"

run=suspended
quietly together $ranks $run &
job=$!
wait_for "$folder/$run/blocks/block-????.h5"
mapfile -t found < <(processes aqlm-mpi $run)
kill -STOP "${found[@]}"
sleep 3
kill -CONT "${found[@]}"
wait $job
check "a job that was suspended as a whole goes on" [ $? = 0 ]
check "... to the same bytes" identical $run
finish
