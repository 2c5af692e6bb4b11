# What the scripts of this folder share. Sourced with the paths of the program and of the fault library.
source "$(dirname "${BASH_SOURCE[0]}")/../mpi/common.sh" "$1"
library=$2
reference=$folder/whole/model.aqlm.h5 # an undisturbed run's, made by make_reference

# 28 layers in 4 blocks: a job of half a second, and one of 2 to 4 s (on two idle cores, by two ranks).
quick=(--backend cpu --set calibration.sequences=12 --set calibration.length=64 --set calibration.validation=4
  --set quantizer.scheme=2x4 --set quantizer.rounds=1 --set quantizer.kmeans_iterations=3 --set quantizer.adam_steps=5
  --set tuning.epochs=1)
slow=("${quick[@]}" --set quantizer.rounds=100 --set tuning.epochs=40 --set tuning.patience=40)
settings=("${quick[@]}")

# arguments RUN: the command line of the job that a script runs, for the run directory $folder/RUN.
arguments() { echo quantize configs/tiny.yaml --output "$folder/$1" "${settings[@]}"; }

# alone RUN [OPTION]...: the job on one rank, without a launcher; FAULT=... arms the fault library.
alone() {
  local run=$1
  shift
  # shellcheck disable=SC2046
  timeout 120 env OMP_NUM_THREADS=1 OMPI_MCA_ess_singleton_isolated=1 ${FAULT:+AQLM_FAULT="$FAULT"} ${FAULT:+LD_PRELOAD="$library"} \
    "$program" $(arguments "$run") "$@" >"$folder/$run.log" 2>&1
}

# together RANKS RUN [OPTION]...: the same under mpirun.
together() {
  local ranks=$1 run=$2
  shift 2
  # shellcheck disable=SC2046
  timeout 120 mpirun --bind-to none --oversubscribe -n "$ranks" ${FAULT:+-x AQLM_FAULT="$FAULT"} ${FAULT:+-x LD_PRELOAD="$library"} \
    "$program" $(arguments "$run") "$@" >"$folder/$run.log" 2>&1
}

# quietly COMMAND...: without the shell's own lines about killed jobs.
quietly() { { "$@"; } 2>/dev/null; }

make_reference() { check "a job runs undisturbed" together 2 whole; }

identical() { cmp -s "$reference" "$folder/$1/model.aqlm.h5"; }

# goes_on RUN: the same command, on one rank, to the same bytes.
goes_on() { alone "$1" && identical "$1"; }

# processes NAME RUN: the numbers of a job's processes of that name, in the order of their start.
processes() {
  pgrep -f "$program quantize.*--output $folder/$2 " | sort -n | while read -r id; do
    if [ "$(cat /proc/"$id"/comm 2>/dev/null)" = "$1" ]; then echo "$id"; fi
  done
}

# wait_for PATTERN: until a file matches, at most 60 s.
wait_for() {
  for _ in $(seq 1200); do
    if compgen -G "$1" >/dev/null; then return 0; fi
    sleep 0.05
  done
  return 1
}

# events RUN: how many there are.
events() { cat "$folder/$1/metrics.jsonl" 2>/dev/null | wc -l; }

# layers_told RUN [N]: "BLOCK LAYER" of every layer that was fitted, in order, after the first N events.
layers_told() {
  tail -n +$((${2:-0} + 1)) "$folder/$1/metrics.jsonl" 2>/dev/null | grep '"event":"layer"' |
    sed -E 's/.*"block":([0-9]+),"layer":"([^"]*)".*/\1 \2/'
}

# finished_blocks RUN: the numbers of the blocks whose files are there.
finished_blocks() {
  for file in "$folder/$1"/blocks/block-????.h5; do
    if [ -e "$file" ]; then expr "$file" : '.*block-\([0-9]*\)' + 0; fi
  done
}

# redone RUN N BLOCKS: how many layers of these blocks were fitted after the first N events.
redone() {
  for block in $3; do layers_told "$1" "$2" | grep "^$block "; done | wc -l
}

# tidy RUN: nothing is left that a job needs only while it works.
tidy() { [ -z "$(find "$folder/$1" -name '*.partial')" ] && [ ! -e "$folder/$1/lock" ]; }
