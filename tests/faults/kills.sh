#!/usr/bin/env bash
# kill -9 of one rank, of all or of mpirun at random moments over the whole run: the same command goes on to the same bytes, and nothing
# finished is made again. AQLM_KILLS=50 for the whole series, AQLM_SEED for other moments, AQLM_SETTINGS="--set run.team_size=2" for
# other jobs.
source "$(dirname "$0")/common.sh" "$@"
# shellcheck disable=SC2206
settings=("${slow[@]}" ${AQLM_SETTINGS:-})
kills=${AQLM_KILLS:-8}
ranks=2
RANDOM=${AQLM_SEED:-1}

milliseconds() { echo $(($(date +%s%N) / 1000000)); }
make_reference
start=$(milliseconds)
check "... and again" together $ranks timed
duration=$(($(milliseconds) - start))

# kill_one RUN: a rank; kill_all RUN: all of them, and mpirun; kill_launcher RUN: mpirun, whose ranks outlive it for a moment.
kill_one() {
  local found
  mapfile -t found < <(processes aqlm-mpi "$1")
  if [ ${#found[@]} -gt 0 ]; then kill -9 "${found[RANDOM % ${#found[@]}]}"; fi
}
kill_all() {
  local found
  mapfile -t found < <(processes mpirun "$1"; processes aqlm-mpi "$1")
  if [ ${#found[@]} -gt 0 ]; then kill -9 "${found[@]}"; fi
}
kill_launcher() {
  local found
  mapfile -t found < <(processes mpirun "$1")
  if [ ${#found[@]} -gt 0 ]; then kill -9 "${found[@]}"; fi
}
kinds=(kill_launcher kill_one kill_all kill_one kill_all)

# Moments that come after a job's end prove nothing: others take their place.
resumed=0 same_bytes=0 twice=0 struck=0 late=0
for trial in $(seq $((3 * kills))); do
  if [ "$struck" = "$kills" ]; then break; fi
  run=kill-$trial
  moment=$((RANDOM * duration / 32768))
  quietly together $ranks "$run" &
  job=$!
  sleep "$((moment / 1000)).$(printf %03d $((moment % 1000)))"
  if ! kill -0 $job 2>/dev/null; then
    late=$((late + 1))
    rm -rf "${folder:?}/$run"
    continue
  fi
  struck=$((struck + 1))
  quietly "${kinds[trial % 5]}" "$run"
  quietly wait $job
  if together $ranks "$run"; then resumed=$((resumed + 1)); else
    echo "kill $trial after $moment ms: not resumed"
    tail -n 5 "$folder/$run.log"
  fi
  if identical "$run"; then same_bytes=$((same_bytes + 1)); else echo "kill $trial after $moment ms: other bytes"; fi
  twice=$((twice + $(layers_told "$run" | sort | uniq -d | wc -l)))
  rm -rf "${folder:?}/$run"
done

echo "kills: $resumed of $kills resumed, $same_bytes of $kills bit-identical, $twice finished layers redone," \
  "$ranks ranks, $duration ms undisturbed, $late moments after a job's end left out"
check "every kill struck a job that ran" [ $struck = "$kills" ]
check "... which goes on" [ $resumed = "$kills" ]
check "... to the same bytes" [ $same_bytes = "$kills" ]
check "... making no finished layer again" [ $twice = 0 ]
finish
