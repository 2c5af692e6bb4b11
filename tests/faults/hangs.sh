#!/usr/bin/env bash
# A main thread that never returns from a call, as from a file system that does not answer, while its communication thread goes on: the job
# ends with that rank's name, keeps what is finished, and goes on to the same bytes.
source "$(dirname "$0")/common.sh" "$@"
make_reference
settings+=(--set run.hang_seconds=3 --set run.silence_seconds=60)

# hung RUN FAULT: the job with that fault. Afterwards $result, $took, $told and $finished.
hung() {
  local start=$SECONDS
  FAULT=$2 quietly together 2 "$1"
  result=$? took=$((SECONDS - start))
  told=$(events "$1") finished=$(finished_blocks "$1")
}

ends_1_soon() { [ "$result" = 1 ] && [ "$took" -le 20 ]; }

again_identical() { goes_on "$1" && tidy "$1" && [ "$(redone "$1" "$told" "$finished")" = 0 ]; }

# named RUN RANK: in the job's one error line.
named() { says "$1" "error: rank $2 on host $(hostname) made no progress for [3-9] s" && one_error "$1"; }

number=0
# Rank 0 hangs in a block's file, rank 1 in the state of tuning, whichever block that is; rank 0 last in the gathered file.
for fault in 0:write:'*/blocks/block-*':3 1:sync:'*/work/*/tuning*':1 0:rename:'*/model.aqlm.h5':1; do
  rank=${fault%%:*} call=${fault#*:}
  run=hung-$((++number))
  hung $run "$call:hang:$rank"
  check "a job whose rank $rank hangs (${call%%:*}) ends with 1" ends_1_soon
  check "... naming it and its host" named $run "$rank"
  check "... which the events tell, too" grep -q "\"event\":\"end\".*rank $rank on host.*made no progress" "$folder/$run/metrics.jsonl"
  check "... and goes on to the same bytes, making nothing finished again" again_identical $run
done
check "... where all was made, only gathering again" [ "$(wc -w <<<"$finished")" = 4 ]
finish
