#!/usr/bin/env bash
# check_cli.sh PROGRAM ROOT: the command line as a user meets it.
#
# Success: status 0, results on stdout. Failure: status 1, exactly one line on stderr, nothing on stdout.
set -uo pipefail
program=$1 root=$2
example=$root/examples/tiny-llama
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

((failures == 0)) && echo "all as expected"
exit $((failures > 0))
