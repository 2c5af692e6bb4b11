#!/usr/bin/env bash
# No room, no quota, failing calls: the job says which file and why, keeps what is complete, and goes on when it can.
source "$(dirname "$0")/common.sh" "$@"
make_reference

# fails_saying FAULT FILE REASON BLOCKS: exit status 1 and one line; so many blocks are kept; then the job goes on.
fails_saying() {
  rm -rf "$folder/run"
  FAULT=$1 ends_with_1 alone run || return 1
  one_error run && grep -q "error: .*$folder/run/$2.*: $3" "$folder/run.log" || return 1
  [ "$(finished_blocks run | wc -l)" = "$4" ] && tidy run || return 1
  local finished told
  finished=$(finished_blocks run) told=$(events run)
  goes_on run && [ "$(redone run "$told" "$finished")" = 0 ] && tidy run
}

full='No space left on device' quota='Disk quota exceeded' broken='Input/output error'
block='*/block-0002.h5*' model='*/model.aqlm.h5*'
check "a full disk while a block file is begun" fails_saying "write:$block:1:ENOSPC" blocks/block-0002.h5 "$full" 2
check "... amid its data" fails_saying "write:$block:20:ENOSPC" blocks/block-0002.h5 "$full" 2
check "... at its end" fails_saying "write:$block:42:ENOSPC" blocks/block-0002.h5 "$full" 2
check "... in its digest" fails_saying 'write:*/block-0002.h5.sha256*:1:ENOSPC' blocks/block-0002.h5.sha256 "$full" 2
check "a quota reached when a block file is created" fails_saying "create:$block:1:EDQUOT" blocks/block-0002.h5 "$quota" 2
check "... amid its data" fails_saying "write:$block:30:EDQUOT" blocks/block-0002.h5 "$quota" 2
check "... told when it is closed" fails_saying "close:$block:1:EDQUOT" blocks/block-0002.h5 "$quota" 2
check "an error from fsync of a block file" fails_saying "sync:$block:1:EIO" blocks/block-0002.h5 "$broken" 2
check "an error from close of a block file" fails_saying "close:$block:1:EIO" blocks/block-0002.h5 "$broken" 2
check "an error from rename of a block file" fails_saying "rename:$block:1:EIO" blocks/block-0002.h5 "$broken" 2
check "an error from fsync of the folder of blocks" fails_saying 'sync:*/blocks:5:EIO' blocks "$broken" 2
check "a full disk for a finished layer" fails_saying 'write:*/work/block-0002/*:30:ENOSPC' work/block-0002 "$full" 2
check "an error from fsync of the state of tuning" fails_saying 'sync:*/tuning.state*:1:EIO' work/block-0000/tuning.state "$broken" 0
check "a quota reached when the folder of a block is written" fails_saying 'create:*/work/*:3:EDQUOT' work/block-0000 "$quota" 0
check "a full disk when the model is gathered" fails_saying "write:$model:1:ENOSPC" model.aqlm.h5 "$full" 4
check "... amid its data" fails_saying "write:$model:70:ENOSPC" model.aqlm.h5 "$full" 4
check "a quota reached when the model is gathered" fails_saying "write:$model:120:EDQUOT" model.aqlm.h5 "$quota" 4
check "an error from fsync of the model" fails_saying "sync:$model:1:EIO" model.aqlm.h5 "$broken" 4
check "an error from close of the model" fails_saying "close:$model:1:EIO" model.aqlm.h5 "$broken" 4
check "a full disk for metrics.jsonl" fails_saying 'write:*/metrics.jsonl:40:ENOSPC' metrics.jsonl "$full" 1
check "a full disk for config.yaml" fails_saying 'write:*/config.yaml*:1:ENOSPC' config.yaml "$full" 0
check "a full disk for the lock" fails_saying 'write:*/lock*:1:ENOSPC' lock "$full" 0

# A snapshot only saves time: a job that cannot write one says so and goes on.
settings+=(--set run.snapshot_every=2)
for fault in create:1:EDQUOT write:2:ENOSPC close:1:EIO rename:2:EIO; do
  IFS=: read -r call turn code <<<"$fault"
  rm -rf "$folder/run"
  FAULT="$call:*/snapshots/*:$turn:$code" alone run
  check "a snapshot that cannot be written ($call) is left out" [ $? = 0 ]
  check "... which is said" says run "warning: there is no snapshot of boundary 2: $folder/run/snapshots/boundary-0002"
  check "... with the same bytes and nothing left" eval "identical run && tidy run"
done
settings=("${quick[@]}")

# A limit on the size of files, as a shell sets it: 24 KiB are too few for a block.
limited() { (ulimit -f 24 && ends_with_1 alone limited); }
check "a file-size limit ends a job" limited
check "... saying why" grep -q "$folder/limited/.*: File too large" "$folder/limited.log"
check "... and without it the job goes on" goes_on limited

# A real file system without room, filled once the first block is finished.
if [ "$(id -u)" = 0 ] && mkdir "$folder/small" && mount -t tmpfs -o size=64m tmpfs "$folder/small" 2>/dev/null; then
  trap 'umount -l "$folder/small"; rm -rf "$folder"' EXIT
  settings=("${slow[@]}")
  reference=$folder/slow/model.aqlm.h5
  check "a longer job runs undisturbed" together 2 slow
  ln -s "$folder/outside.log" "$folder/small/run.log" # what the job says needs room elsewhere
  quietly together 2 small/run &
  job=$!
  wait_for "$folder/small/run/blocks/block-????.h5"
  head -c 100M /dev/zero >"$folder/small/fill" 2>/dev/null
  wait $job
  check "a file system that fills up ends a job" [ $? = 1 ]
  mv "$folder/small/fill" "$folder/small/full" 2>/dev/null
  check "... saying which file has no room" grep -q "error: .*$folder/small/run/.*: $full" "$folder/small/run.log"
  finished=$(finished_blocks small/run) told=$(events small/run)
  rm "$folder/small/full"
  check "... and with room the job goes on" goes_on small/run
  check "... keeping what was finished" [ "$(redone small/run "$told" "$finished")" = 0 ]
  settings=("${quick[@]}")
  reference=$folder/whole/model.aqlm.h5
  mkdir -p "$folder/small/read-only" && mount -o remount,ro "$folder/small"
  check "a read-only directory ends a job" ends_with_1 alone read-log --output "$folder/small/read-only/run"
  check "... saying so" says read-log 'small/read-only/run.*: Read-only file system'
  check "... in one line" one_error read-log
else
  echo "skipped: a file system of its own needs root"
fi
finish
