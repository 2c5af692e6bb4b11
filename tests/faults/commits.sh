#!/usr/bin/env bash
# kill -9 at each step of a commit: at the calls on the files of a block, of a block in work, of a snapshot, of the
# gathered model, of config.yaml, and of their digests. The same command goes on to the same bytes. AQLM_FAULTS=all takes every call, else
# some of each series.
source "$(dirname "$0")/common.sh" "$@"
make_reference

# template RUN: a run whose last block and gathered model are missing.
template() {
  rm -rf "$folder/template"
  cp -r "$folder/$1" "$folder/template"
  rm -f "$folder"/template/blocks/block-0003.h5* "$folder"/template/model.aqlm.h5* "$folder/template/metrics.jsonl"
}
template whole

# begin RUN: a new run directory, made from $from.
begin() {
  rm -rf "${folder:?}/$1"
  if [ "$from" = template ]; then cp -r "$folder/template" "$folder/$1"; fi
}

# steps PATTERN: the calls of an undisturbed run on files that match, one a line.
steps() {
  begin steps
  AQLM_FAULT_LOG=$folder/calls FAULT="any:$1:1000000:kill" alone steps
  cat "$folder/calls"
  rm -f "$folder/calls"
}

# Numbers of the calls to take: no closing, and of writes that follow each other the first and the last.
chosen() {
  awk -v every="${AQLM_FAULTS:-some}" '
    { call[NR] = $1; file[NR] = $2 }
    END {
      for (i = 1; i <= NR; i++) {
        inner = call[i] == "write" && call[i - 1] == "write" && call[i + 1] == "write"
        if (every == "all" || (!inner && call[i] != "close")) print i, call[i], file[i]
      }
    }'
}

# killed_at PATTERN N ACTION: the job dies at that call and goes on to the same bytes, making no finished layer again.
killed_at() {
  begin run
  FAULT="any:$1:$2:$3" quietly alone run
  [ $? = 137 ] || { echo "not killed" >>"$folder/run.log"; return 1; }
  goes_on run && [ -z "$(layers_told run | sort | uniq -d)" ] && tidy run
}

# each_step NAME PATTERN: every step of NAME's commit.
each_step() {
  local name=$1 pattern=$2 good=0 all=0 number call file action
  steps "$pattern" | chosen >"$folder/chosen"
  while read -r number call file <&3; do
    for action in kill half after; do
      case $action:$call in half:write | kill:* | after:rename) ;; *) continue ;; esac
      all=$((all + 1))
      if killed_at "$pattern" "$number" $action; then good=$((good + 1)); else
        echo "failed: $action at call $number of $name ($call ${file##*/})"
        tail -n 3 "$folder/run.log"
      fi
    done
  done 3<"$folder/chosen"
  echo "$name: $good of $all steps"
  check "a job killed at any step of the commit of $name goes on" [ "$good" = "$all" -a "$all" -gt 5 ]
}

from=template
each_step 'a block file' '*/blocks/block-0003*'
each_step 'a finished layer' '*/work/block-0003/mlp.up_proj*'
each_step 'the gathered model' '*/model.aqlm.h5*'
# The first epoch's state is written while the second one goes on, whose state replaces it.
settings+=(--set tuning.epochs=2)
reference=$folder/tuned/model.aqlm.h5
check "a job of two epochs runs undisturbed" together 2 tuned
template tuned
each_step 'the state of tuning' '*/work/block-0003/tuning*'
settings=("${quick[@]}")
reference=$folder/whole/model.aqlm.h5
from=nothing
settings+=(--set run.snapshot_every=2)
each_step 'a snapshot' '*/snapshots/*'
settings=("${quick[@]}")
each_step 'the settings' '*/config.yaml*'
finish
