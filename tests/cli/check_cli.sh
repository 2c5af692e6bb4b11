#!/usr/bin/env bash
# check_cli.sh PROGRAM ROOT: the command line as a user meets it.
#
# Success: status 0, results on stdout. Failure: status 1, exactly one line on stderr, nothing on stdout.
set -uo pipefail
program=$1 root=$2
example=$root/examples/tiny-llama
source "$(dirname "$0")/../scratch.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

complain() {
  echo "FAILED: $1"
  sed 's/^/    stdout: /' "$work/out" | head -n 5
  sed 's/^/    stderr: /' "$work/err" | head -n 5
  failures=$((failures + 1))
}

run() { # ARGUMENT...: leaves $work/out, $work/err and $status
  shown="aqlm-mpi $*"
  (cd "$work" && timeout 60 "$program" "$@") >"$work/out" 2>"$work/err" </dev/null
  status=$?
}

succeeds() { # TEXT ARGUMENT...: TEXT (a pattern) is on stdout, nothing on stderr
  local text=$1
  shift
  run "$@"
  [[ $status == 0 && ! -s $work/err ]] && grep -qE -- "$text" "$work/out" || complain "$shown: expected $text"
}

fails() { # TEXT ARGUMENT...: TEXT (a pattern) is in the one line
  local text=$1
  shift
  run "$@"
  [[ $status == 1 && ! -s $work/out && $(wc -l <"$work/err") == 1 ]] &&
    grep -qE -- "^aqlm-mpi: error: .*$text" "$work/err" || complain "$shown: expected one line with: $text"
}

echo "== the program and every command explain themselves"
succeeds '^Usage: aqlm-mpi ' --help
mapfile -t commands < <(sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' "$work/out")
[[ ${#commands[@]} -gt 0 ]] || complain "no commands in the help"
succeeds '^Usage: aqlm-mpi ' --usage
succeeds '^aqlm-mpi [0-9]+\.[0-9]+\.[0-9]+$' --version
for command in "${commands[@]}"; do
  succeeds "^Usage: aqlm-mpi $command" "$command" --help
  succeeds "^Usage: aqlm-mpi $command" "$command" --usage
  succeeds '^aqlm-mpi [0-9]' "$command" --version
  fails '--no-such-option' "$command" --no-such-option
  fails '-Z' "$command" -Z
  fails '' "$command"
done

echo "== commands and options that do not exist"
fails 'which command' 
fails '--no-such-option' --no-such-option
fails 'unknown command evaluat: did you mean evaluate' evaluat
fails 'unknown command xyzzy: aqlm-mpi --help' xyzzy

echo "== evaluate"
fails 'no-such-model' evaluate no-such-model --tokens "$example/validation.npy"
fails 'no-such.npy' evaluate "$example" --tokens no-such.npy
fails 'tokens' evaluate "$example"
fails 'unexpected argument' evaluate "$example" another --tokens x.npy
fails 'seqlen' evaluate "$example" --tokens "$example/validation.npy" --seqlen 1
fails '--seqlen' evaluate "$example" --tokens "$example/validation.npy" --seqlen
fails 'backend' evaluate "$example" --tokens "$example/validation.npy" --backend gpu
fails 'config.json' evaluate "$work" --tokens "$example/validation.npy"
fails 'tokenizer.json' evaluate "$example" --tokens "$example/tokenizer.json"
fails 'README.md' evaluate "$example/README.md" --tokens "$example/validation.npy"

echo "== quantize"
small=(--backend cpu --set "model=$example" --set "calibration.tokens=$example/calibration.npy" --output run
  --set calibration.sequences=4 --set calibration.length=32 --set calibration.validation=1 --set quantizer.scheme=1x4
  --set quantizer.kmeans_iterations=2 --set quantizer.rounds=1 --set quantizer.adam_steps=1 --set tuning.epochs=0)
recipe=$root/configs/tiny.yaml
quantize=(quantize "$recipe" "${small[@]}")
printf 'quantizer:\n  bema: 4\n' >"$work/typo.yaml"
printf 'a text' >"$work/text"
printf '{"model_type": "gpt2"}' >"$work/config.json" # the work folder is a model of another family
fails 'CONFIG.yaml' quantize
fails 'no-such.yaml' quantize no-such.yaml
fails 'line 2: unknown key quantizer.bema: did you mean quantizer.beam\?' quantize typo.yaml
fails 'key=value' "${quantize[@]}" --set quantizer.beam
fails 'quantizer.beam: expected an integer from 1 to 16, found "99"' "${quantize[@]}" --set quantizer.beam=99
fails 'run.seed: expected an integer' "${quantize[@]}" --seed minus
fails 'run.backend: expected auto\|cpu\|cuda' "${quantize[@]}" --backend gpu
fails 'auto, live or plain' "${quantize[@]}" --progress loud
fails 'calibration.validation is 4' "${quantize[@]}" --set calibration.validation=4
fails 'unsupported|not supported|gpt2' "${quantize[@]}" --set "model=$work"
fails 'text' "${quantize[@]}" --set calibration.tokens=text
fails 'text: cannot be made: Not a directory' "${quantize[@]}" --output text/run
fails 'same folder' "${quantize[@]}" --output "$example"
[[ ! -e $work/run ]] || complain "a refused job left a run directory"
if [[ $(id -u) == 0 ]]; then # root may write anywhere but here
  fails '/proc/' "${quantize[@]}" --output /proc/run
else
  mkdir "$work/locked" && chmod 555 "$work/locked"
  fails 'locked/run: cannot be made: Permission denied' "${quantize[@]}" --output locked/run
fi

run "${quantize[@]}" --progress plain
[[ $status == 0 ]] && grep -q 'bits per weight' "$work/out" && grep -q '^block 3 done' "$work/err" || complain "$shown"
run "${quantize[@]}" --quiet
[[ $status == 0 ]] && grep -q 'complete already' "$work/out" || complain "$shown: expected nothing to do"
fails 'quantizer.beam was 1 and is now 2' "${quantize[@]}" --set quantizer.beam=2
cp -r "$work/run" "$work/before"
fails 'run.seed was 0 and is now 5' "${quantize[@]}" --seed 5
diff -r "$work/run" "$work/before" >/dev/null || complain "a refused job changed the run directory"

echo "== a model that is truncated while it is read"
mkdir "$work/shrinking"
cp "$example"/*.json "$example/model.safetensors" "$work/shrinking"
shown="quantize of a model that shrinks"
timeout 60 "$program" "${quantize[@]}" --set "model=$work/shrinking" --output "$work/shrunk" --quiet \
  --set calibration.sequences=64 --set tuning.epochs=50 --set tuning.patience=50 >"$work/out" 2>"$work/err" &
for ((i = 0; i < 300; i++)); do
  grep -q '"stage":"fit"' "$work/shrunk/metrics.jsonl" 2>/dev/null && break
  sleep 0.05
done
truncate -s 4096 "$work/shrinking/model.safetensors"
wait $!
[[ $? == 1 && $(wc -l <"$work/err") == 1 ]] &&
  grep -q "was truncated or its storage failed ($work/shrinking/model.safetensors)" "$work/err" || complain "$shown"

echo "== status"
succeeds '^run: complete, 4 of 4 blocks done$' status run
succeeds '^0 +done +0\.[0-9]+ ' status run
succeeds '^\{"state":"complete",.*"done":4,' status run --json
succeeds '^run: complete, 4 of 4 blocks done$' status run --follow
fails 'nowhere: cannot be looked at: No such file' status nowhere
fails 'not a run directory: it has no config.yaml' status "$example"
fails 'text: expected a run directory' status text
cp -r "$work/run" "$work/dead"
rm "$work/dead/model.aqlm.h5" "$work/dead/blocks/block-0003.h5"
sed -i '/"event":"\(run\|end\|start\)"/d; /"event":"block".*"block":3,/d' "$work/dead/metrics.jsonl"
printf 'garbage\n{"event":"sta' >>"$work/dead/metrics.jsonl"
succeeds '^dead: working, 3 blocks done, 1 in work' status dead
succeeds '^1 unreadable line in metrics.jsonl$' status dead
succeeds '^3 +in work .* writing' status dead
run_follow() { timeout --preserve-status -s INT 1 "$program" status "$work/dead" --follow --json >"$work/out" 2>"$work/err"; }
run_follow && [[ $(wc -l <"$work/out") == 1 && ! -s $work/err ]] || complain "Ctrl-C does not end status --follow quietly"

echo "== evaluate, export and info of what it made"
made=run/model.aqlm.h5
{ # the first 512 tokens: a .npy file is a header of 128 bytes and the numbers
  printf '\x93NUMPY\x01\x00\x76\x00'
  printf '%-117s\n' "{'descr': '<u2', 'fortran_order': False, 'shape': (512,), }"
  head -c 1152 "$example/validation.npy" | tail -c 1024
} >"$work/few.npy"
tokens=(--tokens few.npy --backend cpu --seqlen 64)
succeeds '"perplexity": ?[0-9.]+.*"tokens": ?[0-9]+.*"seconds"' evaluate $made "${tokens[@]}" --json
cut -d. -f1 "$work/out" >"$work/perplexity" # the export rounds what stays dense to float16
succeeds '^perplexity ' evaluate $made "${tokens[@]}" --logits logits.npy
[[ $(stat -c %s "$work/logits.npy") == $((128 + 64 * 4096 * 4)) ]] || complain "logits.npy is not [64, 4096] float32"
fails 'no/such.npy.*: cannot write' evaluate $made "${tokens[@]}" --logits no/such.npy
succeeds 'bits per weight' info $made
succeeds '^\{.*"bits_per_weight".*"blocks"' info $made --json
succeeds 'exported' export $made --out exported
succeeds "$(cat "$work/perplexity")" evaluate exported "${tokens[@]}" --json
succeeds 'bits per weight' info exported
succeeds 'dense' info "$example"
head -c 100000 "$work/$made" >"$work/cut.h5"
fails 'exported: .*not empty' export $made --out exported
fails 'cut.h5: damaged or truncated' export cut.h5 --out another
fails 'cut.h5: damaged or truncated' info cut.h5
fails 'cut.h5: damaged or truncated' evaluate cut.h5 "${tokens[@]}"
sed 's/model/mode1/' "$work/run/model.aqlm.h5" >"$work/odd.h5"
sed 's/model.aqlm/odd/' "$work/run/model.aqlm.h5.sha256" >"$work/odd.h5.sha256"
fails 'odd.h5: damaged: its SHA-256' export odd.h5 --out another
fails 'odd.h5: damaged: its SHA-256' info odd.h5
fails 'odd.h5: damaged: its SHA-256' evaluate odd.h5 "${tokens[@]}"
fails 'restart-block: expected 3 or 3,5,7, found x' quantize "$example/../../configs/tiny.yaml" --restart-block x
fails 'text: not an HDF5 file' info text
fails 'no-such' info no-such
fails 'no-such' export no-such --out another
fails 'shard-size' export $made --out another --shard-size 5parsecs
fails 'out' export $made
fails 'text/x' export $made --out text/x
[[ ! -e $work/another ]] || complain "a refused export left its folder"

echo "== plan"
plan=(plan "$root/configs/tiny.yaml" --set "model=$example" --set "calibration.tokens=$example/calibration.npy" --set output=planned)
succeeds 'It fits' "${plan[@]}" --backend cpu
succeeds 'NVIDIA H100' "${plan[@]}" --gpu h100 --ranks 4
succeeds '"fits": true' "${plan[@]}" --backend cpu --json
fails 'which CONFIG' plan
fails 'expected an integer' "${plan[@]}" --ranks 0
fails 'h999' "${plan[@]}" --gpu h999
fails 'no-such' "${plan[@]}" --set model=no-such
fails 'text' "${plan[@]}" --rates text
mkdir -p "$work/shape-only" && cp "$example/config.json" "$work/shape-only"
succeeds 'not there yet: the model.s weights' "${plan[@]}" --backend cpu --set model=shape-only
run "${plan[@]}" --gpu h100 --node-memory 0.001
[[ $status == 1 && ! -s $work/err ]] && grep -q 'calibration.sequences' "$work/out" || complain "a plan that does not fit says what to change"

echo "== bench"
fails 'layer' bench
fails 'input' bench layer
fails 'no-such.h5' bench layer --input no-such.h5 --scheme 2x8
fails 'text' bench layer --input text --scheme 2x8
fails 'cut.h5|weight' bench layer --input $made --scheme 2x8
fails 'scheme' bench layer --input $made --scheme eight
fails 'from 1 to 16' bench layer --input $made --beam 0
layer=(bench layer --input "$root/tests/data/layer.h5" --scheme 2x4 --backend cpu)
succeeds '"kmeans_error": 0\.[0-9]+, "round_errors": \[0\.[0-9]+, 0\.[0-9]+\], "stop_round": null, "stop_error": null, ' \
  "${layer[@]}" --rounds 2 --json
succeeds '"seconds": \{"kmeans": [0-9.e-]+, "codebooks": [0-9.e-]+, "codes": [0-9.e-]+, "total": [0-9.e-]+\}\}$' \
  "${layer[@]}" --json
succeeds '"stop_round": 1, "stop_error": 0\.' "${layer[@]}" --rounds 2 --tolerance 0.99 --json
succeeds 'the rule stops here' "${layer[@]}" --beam 2 --out-group 2 --group 4 --scheme 1x3
fails '--rounds' "${layer[@]}" --tolerance 0
fails 'does not divide' "${layer[@]}" --group 7
shaped=(bench layer --shape 64x128 --backend cpu --repeat 2 --kmeans-iterations 3 --scheme)
succeeds '^k-means  .* FLOP .*%$' "${shaped[@]}" 2x4
succeeds '^peak memory: ' "${shaped[@]}" 2x4
succeeds '"round_errors": \[0\.[0-9]+, 0\.[0-9]+, 0\.[0-9]+\],.*"phase": "code pass", "seconds": [0-9.e-]+, "rate": [0-9.e+]+, "unit": "FLOP", "floor_seconds": [0-9.e-]+, "fraction_of_floor": [0-9.e-]+\}\], "peak_memory": [0-9]+\}$' \
  "${shaped[@]}" 1x3 --rounds 3 --json
fails 'OUTxIN such as 4096x4096' bench layer --shape 64by128
fails 'OUTxIN such as 4096x4096' bench layer --shape 64x128x2
fails '100 columns' bench layer --shape 64x100
fails '65536 entries' "${shaped[@]}" 1x16
fails 'give one' "${layer[@]}" --shape 64x128
fails '--repeat: expected an integer from 1' bench layer --shape 64x128 --repeat 0
fails 'NAME is missing' bench tune
fails 'expected one of llama-2-7b, llama-2-70b' bench tune --shape gpt
fails '--seqlen: expected an integer' bench tune --shape llama-2-7b --seqlen one
fails 'has experts' bench tune --shape mixtral-8x7b
tune=(bench tune --shape 64x128x4 --seqlen 16 --scheme 2x4 --backend cpu)
succeeds '^forward \+ backward .* FLOP .*%$' "${tune[@]}"
succeeds '^\{"shape": "64x128x4", "seqlen": 16, "machine": \{.*"phase": "update, once a step", .*"peak_memory": [0-9]+\}$' "${tune[@]}" --json
fails 'NAME is missing' bench block
fails 'mixtral-8x7b' bench block --shape gpt
fails 'HIDDENxFFNxHEADS' bench block --shape 64x128x5
fails 'layer of 64 x 100: .*100 columns' bench block --shape 64x100x4 --scheme 1x4 --backend cpu
block=(bench block --shape 64x128x4 --backend cpu --scheme 1x4 --seqlen 16 --repeat 1 --kmeans-iterations 20)
succeeds '^1 blocks: [0-9.e-]+ GPU-hours' "${block[@]}"
succeeds '^run: per shape one start, at most 8 iterations and 3 rounds' "${block[@]}"
succeeds '^run: all of it' "${block[@]}" --full --rounds 2 --sequences 8 --validation 2 --epochs 1
fails 'blocks with experts cannot be run as a whole' bench block --shape mixtral-8x7b --full --backend cpu
succeeds '"count": 4, .*"phase": "block tuning", "seconds": [0-9.e-]+, .*"gpu_hours": [0-9.e-]+, .*"epochs": 3, ' "${block[@]}" --epochs 3 --json

((failures == 0)) && echo "all as expected"
exit $((failures > 0))
