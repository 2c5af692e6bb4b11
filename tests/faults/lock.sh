#!/usr/bin/env bash
# One job a run directory: a second one is refused, a dead owner's lock is taken over, and a clean end leaves none.
source "$(dirname "$0")/common.sh" "$@"
make_reference
check "a clean end removes the lock" fails test -e "$folder/whole/lock"
settings=("${slow[@]}")

second() { alone second-log --output "$folder/held" "$@"; }

quietly together 2 held &
job=$!
check "a job that works holds the lock" wait_for "$folder/held/lock"
# Suspended: it must not end while the second job gives it its moment.
mapfile -t ranks < <(processes aqlm-mpi held)
kill -STOP "${ranks[@]}"
check "a second job is refused" ends_with_1 second
check "... naming the owner" says second-log "process [0-9]* on $(hostname) .*since 20.*--break-lock"
check "... which is a rank of the first job" grep -q "\"process\":\($(processes aqlm-mpi held | tr '\n' '|' | sed 's/|$//; s/|/\\|/g')\)," "$folder/held/lock"
check "... in one line" one_error second-log
kill -CONT "${ranks[@]}"
wait $job
check "... and the first job ends undisturbed" [ $? = 0 ]

quietly together 2 stopped &
job=$!
wait_for "$folder/stopped/blocks/block-????.h5"
kill -USR1 "$(processes mpirun stopped)"
wait $job
check "a job that stops on request ends with 75" [ $? = 75 ]
check "... and leaves no lock" fails test -e "$folder/stopped/lock"

settings=("${quick[@]}")
FAULT='rename:*/block-0001.h5:1:EIO' alone failed
check "a job that fails leaves no lock" fails test -e "$folder/failed/lock"

FAULT='rename:*/block-0001.h5:1:kill' quietly alone killed
check "a killed job leaves its lock" test -e "$folder/killed/lock"
check "... which the next one takes over" goes_on killed
check "... and says so" says killed 'the lock of process .* is taken over'
check "... and removes" tidy killed

# forge RUN [SECONDS AGO]: the lock of a job on another host.
forge() {
  mkdir -p "$folder/$1"
  sed "s/\"host\":\"[^\"]*\",\"boot\":\"[^\"]*\"/\"host\":\"elsewhere\",\"boot\":\"another\"/" "$folder/lock" >"$folder/$1/lock"
  touch -d "${2:-0} seconds ago" "$folder/$1/lock"
}
quietly alone sample &
wait_for "$folder/sample/lock"
cp "$folder/sample/lock" "$folder/lock"
wait

forge silent 50
check "a lock of another host that nobody renews is taken over" goes_on silent
check "... after it was watched" says silent 'locked by process .* on elsewhere .*watching'

forge living
{
  for _ in $(seq 40); do
    sleep 0.5
    echo >>"$folder/living/lock"
  done
} &
renewer=$!
check "a lock of another host that is renewed is respected" ends_with_1 alone living
check "... naming the host" says living 'on elsewhere'
kill $renewer
forge living
check "... unless it is broken" alone living --break-lock
check "... by a job that ends as usual" identical living
wait 2>/dev/null
finish
