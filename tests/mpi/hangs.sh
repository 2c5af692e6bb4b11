#!/usr/bin/env bash
# A rank that is suspended ends the job, by name and soon; a job that is suspended as a whole goes on.
source "$(dirname "$0")/common.sh" "$@"

long=(--set quantizer.rounds=30 --set quantizer.tolerance=0 --set tuning.epochs=4 --set tuning.patience=9 --set run.silence_seconds=3)

# begun RUN: a job of $size ranks in the background as $job, whose first block is finished; its ranks in $ranks.
size=2
begun() {
  quantize "$size" "$1" "${long[@]}" &
  job=$!
  wait_for "$folder/$1/blocks/block-000[01].h5" || return 1
  mapfile -t ranks < <(processes aqlm-mpi "$1")
  [ ${#ranks[@]} = "$size" ]
}

# suspended RUN RANK: one rank of a job is stopped. Afterwards $result and $took.
suspended() {
  begun "$1" || return 1
  local start=$SECONDS
  kill -STOP "${ranks[$2]}"
  wait "$job"
  result=$?
  took=$((SECONDS - start))
}

ends_1_soon() { [ "$result" = 1 ] && [ "$took" -le 15 ]; }

check "a job runs undisturbed" quantize 2 whole "${long[@]}"
for rank in 0 1; do
  suspended hung-$rank $rank
  check "a job whose rank $rank hangs ends with 1" ends_1_soon
  check "... naming it and its host" says hung-$rank "error: rank $rank on host $(hostname) was not heard of for [0-9]* s"
  check "... which the events tell, too" grep -q "\"event\":\"end\".*rank $rank on host" "$folder/hung-$rank/metrics.jsonl"
  check "... and goes on" quantize 2 hung-$rank "${long[@]}"
  check "... to the same bytes" same whole/model.aqlm.h5 hung-$rank/model.aqlm.h5
done

all_suspended() {
  begun nap || return 1
  kill -STOP "${ranks[@]}"
  sleep 8
  kill -CONT "${ranks[@]}"
  wait "$job"
}
check "a job that was suspended as a whole goes on" all_suspended
check "... to the same bytes" same whole/model.aqlm.h5 nap/model.aqlm.h5

# Rank 2 waits in a call of its team for rank 3, which rank 0 finds to be lost.
size=4
long+=(--set run.team_size=2)
suspended team 3
soon() { ends_1_soon && [ "$took" -le 8 ]; }
check "a job ends with 1 whose rank 3 hangs, for which another one waits in a call of their team" soon
check "... naming it and its host" says team "error: rank 3 on host $(hostname) was not heard of for [0-9]* s"
check "... once the other one has left that call, knowing why" \
  grep -q '"event":"failed","rank":2,.*rank 3 on host .* was not heard of' "$folder/team/metrics.jsonl"
check "... and goes on" quantize 4 team "${long[@]}"
finish
