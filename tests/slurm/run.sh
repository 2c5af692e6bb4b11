#!/usr/bin/env bash
# The batch scripts of slurm/ on a real Slurm of two nodes, which lives for this test only: jobs that end, that meet
# their time limit, are cancelled, signalled and requeued, and always come to an undisturbed run's model.
#
#   run.sh PROGRAM        exit status 77 where Slurm cannot be installed or started
#
# shellcheck disable=SC2317  # functions that only `check` calls, by name
set -uo pipefail
AQLM_PROGRAM=$(realpath "$1")
export AQLM_PROGRAM
here=$(realpath "$(dirname "$0")")
cd "$here/../.." || exit 1
# Short: sockets live below it. World-readable: it may belong to root and serve other users' daemons.
folder=$(mktemp -d /tmp/aqlm-slurm-XXXXXX)
export SLURM_SANDBOX_DIR=$folder/sandbox SLURM_SANDBOX_KILL_WAIT=15
trap '"$here/slurm-sandbox" stop >/dev/null; rm -rf "$folder"' EXIT
failures=0

skip() {
    echo "skipped: $1"
    exit 77
}

# check "statement" COMMAND...: the command must succeed.
check() {
    local statement=$1
    shift
    if "$@"; then echo "passed: $statement (${SECONDS} s)"; else echo "FAILED: $statement"; failures=$((failures + 1)); fi
}

fails() { ! "$@"; }

# A job of 5 to 15 s: two blocks at a time, four in all.
settings=(--backend cpu --set calibration.sequences=80 --set calibration.length=64 --set calibration.validation=8
    --set quantizer.scheme=2x6 --set quantizer.tolerance=0 --set quantizer.rounds=6 --set quantizer.kmeans_iterations=10
    --set quantizer.adam_steps=60 --set tuning.epochs=20 --set tuning.patience=20)

# submit SCRIPT RUN OPTION...: prints the job's number.
submit() {
    local script=$1 run=$2
    shift 2
    AQLM_LOGS=$folder/$run-ranks sbatch --parsable --nodes=2 --ntasks-per-node=1 --output="$folder/$run.log" "$@" \
        "slurm/$script" configs/tiny.yaml --output "$folder/$run" "${settings[@]}"
}

job_field() { scontrol show job "$1" | grep -oP "\b$2=\K\S+" | head -n 1; }

# within SECONDS COMMAND...: waits until the command succeeds.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        if ((SECONDS >= deadline)); then return 1; fi
        sleep 0.2
    done
}

ended() { [[ $(job_field "$1" JobState) =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL|OUT_OF_MEMORY)$ ]]; }
in_state() { [ "$(job_field "$1" JobState)" = "$2" ]; }
completes() { within 90 ended "$1" && in_state "$1" COMPLETED; }
restarted() { [ "$(job_field "$1" Restarts)" = "$2" ]; }
first_block() { test -e "$folder/$1/blocks/block-0000.h5"; }
same() { cmp -s "$folder/undisturbed/model.aqlm.h5" "$folder/$1/model.aqlm.h5"; }
says() { grep -qs -- "$2" "$folder/$1.log"; }

# A finished block is never made again: its file stays the one that it was.
block_inode() { stat -c %i "$folder/$1/blocks/block-0000.h5"; }
kept() { [ "$(block_inode "$1")" = "$2" ]; }

"$here/slurm-sandbox" start >"$folder/start.log" 2>&1 || skip "no Slurm here: $(tail -n 1 "$folder/start.log")"
eval "$("$here/slurm-sandbox" env)"
[ "$(sinfo -h -N | wc -l)" = 2 ] || skip "a cluster of two nodes needs root and namespaces"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive # the two nodes share one machine's cores

# Slurm looks at time limits every 30 s. This job tells when, so that another can be at work at the next time.
cat >"$folder/clock.sbatch" <<'SCRIPT'
#!/usr/bin/env bash
trap 'date +%s; exit' USR1
sleep 60 &
wait
SCRIPT
clock=$(sbatch --parsable --time=1 --signal=B:USR1@300 --output="$folder/clock.log" "$folder/clock.sbatch")

job=$(submit quantize.sbatch undisturbed --oversubscribe)
check "a job ends on two nodes" completes "$job"
check "... with a log of each rank" [ -s "$folder/undisturbed-ranks/rank-0.log" -a -e "$folder/undisturbed-ranks/rank-1.log" ]
check "... and a model" [ -s "$folder/undisturbed/model.aqlm.h5" ]

check "... for which the dense model was forwarded once" grep -q '"dense_forward_passes":1.0[,}]' "$folder/undisturbed/metrics.jsonl"
alone() { OMP_NUM_THREADS=2 "$AQLM_PROGRAM" quantize configs/tiny.yaml --output "$folder/alone" "${settings[@]}" >"$folder/alone.log" 2>&1; }
check "one process makes the same blocks" alone
check "... and the same model" same alone

errors_of() { "$AQLM_PROGRAM" status "$folder/$1" | awk '$2 == "done" { print $3 }'; }
close_errors() {
    paste <(errors_of undisturbed) <(errors_of "$1") |
        awk '{ d = $2 / $1 - 1; if (d > 0.1 || d < -0.1) bad = 1 } END { exit bad || NR != 4 }'
}
settings+=(--set run.team_size=2)
job=$(submit quantize.sbatch teamed --oversubscribe)
unset 'settings[-1]' 'settings[-1]'
check "a team of two nodes ends" completes "$job"
check "... with block errors within 10% of single ranks'" close_errors teamed

export AQLM_LAUNCHER=mpirun AQLM_MAX_RESTARTS=0
job=$(submit quantize.sbatch capped --oversubscribe)
check "a job starts that will meet its cap of restarts, under mpirun" within 60 first_block capped
block=$(block_inode capped)
scancel --batch --signal=USR1 "$job"
check "SIGUSR1 to the batch shell ends it within 10 s" within 10 ended "$job"
check "... with exit status 75" [ "$(job_field "$job" ExitCode)" = 75:0 ]
check "... saying why it is not requeued" says capped 'not requeued after 0 restarts'
job=$(submit quantize.sbatch capped --oversubscribe)
check "submitted again it ends" completes "$job"
check "... with the same model" same capped
check "... and keeps what was finished" kept capped "$block"
unset AQLM_LAUNCHER AQLM_MAX_RESTARTS

job=$(AQLM_SCHEMES="2x4 2x6" AQLM_SWEEP=$folder/sweep submit sweep.sbatch swept --array=1)
check "a task of a sweep ends" completes "$job"
check "... in its scheme's directory" cmp "$folder/undisturbed/model.aqlm.h5" "$folder/sweep/2x6/model.aqlm.h5"

job=$(sbatch --parsable --output="$folder/perplexity.log" slurm/evaluate.sbatch "$folder/undisturbed/model.aqlm.h5" \
    --tokens examples/tiny-llama/validation.npy --seqlen 64)
check "an evaluation ends" completes "$job"
check "... with a perplexity" says perplexity '^perplexity [0-9]'

job=$(submit quantize.sbatch cancelled)
check "a job starts that will be cancelled" within 60 first_block cancelled
block=$(block_inode cancelled)
scancel "$job"
check "scancel ends it" within 30 ended "$job"
check "... for good" in_state "$job" CANCELLED
check "... without a model" fails test -e "$folder/cancelled/model.aqlm.h5"
job=$(submit quantize.sbatch cancelled)
check "submitted again it ends" completes "$job"
check "... with the same model" same cancelled
check "... and keeps what was finished" kept cancelled "$block"

job=$(submit quantize.sbatch stopped)
check "a job starts that will be stopped" within 60 first_block stopped
block=$(block_inode stopped)
scancel --signal=TERM "$job"
check "SIGTERM to the ranks ends it within 10 s" within 10 ended "$job"
check "... with exit status 75" [ "$(job_field "$job" ExitCode)" = 75:0 ]
check "... saying how to go on" says stopped 'submit the same command again'
check "... and it is not requeued" restarted "$job" 0
job=$(submit quantize.sbatch stopped)
check "submitted again it ends" completes "$job"
check "... with the same model" same stopped
check "... and keeps what was finished" kept stopped "$block"

# The rank on the second node, told from the others by its environment.
kill_rank_1() {
    local pid
    for pid in $(pgrep -f "^$AQLM_PROGRAM quantize .*$folder/$1 "); do
        if grep -qz '^SLURM_PROCID=1$' "/proc/$pid/environ"; then kill -KILL "$pid"; fi
    done
}
job=$(submit quantize.sbatch killed)
check "a job starts that will lose a rank" within 60 first_block killed
block=$(block_inode killed)
kill_rank_1 killed
check "the loss ends it" within 30 ended "$job"
check "... as failed" in_state "$job" FAILED
check "... and it is not requeued" restarted "$job" 0
job=$(submit quantize.sbatch killed)
check "submitted again it ends" completes "$job"
check "... with the same model" same killed
check "... and keeps what was finished" kept killed "$block"

job=$(submit quantize.sbatch preempted)
check "a job starts that will be requeued twice" within 60 in_state "$job" RUNNING
check "... and holds its lock" within 60 test -e "$folder/preempted/lock"
# Preemption may come so hard that the lock stays: as if the first start had been on a node that nobody can ask.
plant_lock() {
    printf '{"host":"lost","boot":"b","namespace":"n","job":"%s","restarts":0,"process":7,"start":7,"since":%s,"renewed":%s}\n' \
        "$job" "$(date +%s)" "$(($(date +%s) + 3600))" >"$folder/lock" && mv "$folder/lock" "$folder/preempted/lock"
}
scontrol requeue "$job"
check "requeued it leaves" within 30 fails test -e "$folder/preempted/lock"
plant_lock
runs_again() { restarted "$job" 1 && in_state "$job" RUNNING; }
check "it starts again" within 60 runs_again
check "... and finishes a block" within 60 first_block preempted
check "... having taken over its own lock" grep -q 'lock of .*lost.* is taken over' "$folder/preempted-ranks/rank-0.log"
check "... at once" fails grep -q 'watching' "$folder/preempted-ranks/rank-0.log"
block=$(block_inode preempted)
scontrol requeue "$job"
check "requeued again it ends" completes "$job"
check "... after two restarts" restarted "$job" 2
check "... with the same model" same preempted
check "... and keeps what was finished" kept preempted "$block"

# A job that starts 4 s before Slurm looks at time limits, with one that is near by then. Slurm's clock is not exact and
# the job may be over too early: then another takes its place.
seconds_to_tick() { echo $((30 - ($(date +%s) - $(cat "$folder/clock.log")) % 30)); }
signalled() { says limited 'got USR1: yes'; }
over() { signalled || ended "$job"; }
meet_limit() {
    local attempt
    for attempt in 1 2 3; do
        rm -rf "$folder/limited" "$folder/limited.log"
        sleep $((($(seconds_to_tick) + 26) % 30))
        job=$(submit quantize.sbatch limited --time=5)
        within 60 over
        if signalled; then return 0; fi
        echo "attempt $attempt: the job was over before Slurm looked"
    done
    return 1
}
check "Slurm signals before a time limit" within 60 ended "$clock"
check "a job gets the signal" meet_limit
check "... and is requeued" within 60 restarted "$job" 1
scontrol update JobId="$job" TimeLimit=60 # so that it is not near its limit again
check "... because the step ended with 75" says limited 'ended with 75 (got USR1: yes, TERM: no)'
check "... and ends" completes "$job"
check "... with the same model" same limited

if ((failures > 0)); then
    tail -n 30 "$folder"/*.log "$folder"/*-ranks/*.log
    "$here/slurm-sandbox" logs | tail -n 60
fi
exit $((failures > 0))
