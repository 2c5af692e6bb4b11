#!/usr/bin/env bash
# Damaged files of a run directory: never silently used. They are set aside, named, and made again to the same bytes.
source "$(dirname "$0")/common.sh" "$@"
make_reference
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT

# flip FILE OFFSET: one byte becomes another.
flip() {
  local byte
  byte=$(od -An -t u1 -j "$2" -N 1 "$1")
  # shellcheck disable=SC2059
  printf "\\x$(printf %02x $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

size_of() { stat -c %s "$1"; }

# damaged RUN FILE HOW: a copy of the finished run with a damaged file: its byte at a share (0 to 99 percent), cut or emptied.
damaged() {
  rm -rf "${folder:?}/$1"
  cp -r "$folder/whole" "$folder/$1"
  local file=$folder/$1/$2
  case $3 in
    cut) truncate -s $(($(size_of "$file") * 2 / 3)) "$file" ;;
    empty) truncate -s 0 "$file" ;;
    *) flip "$file" $(($(size_of "$file") * $3 / 100)) ;;
  esac
}

# matches FILE: it has the digest that stands beside it.
matches() { (cd "$(dirname "$folder/run/$1")" && sha256sum --status -c "$(basename "$1").sha256"); }

# made_again FILE HOW BLOCKS: the damage is said, the file set aside, so many blocks made again, the result the same.
made_again() {
  damaged run "$1" "$2"
  if [ "${3:-0}" != 0 ]; then rm -f "$folder"/run/model.aqlm.h5*; fi
  local told
  told=$(events run)
  goes_on run && says run "$folder/run/$1" || return 1
  [ -e "$folder/run/$1.damaged" ] || return 1
  [ "$(layers_told run "$told" | wc -l)" = $((7 * ${3:-0})) ] || return 1
  matches "$1" && tidy run
}

block=blocks/block-0002.h5
for share in 0 5 35 65 99; do
  check "a flipped byte at $share% of a block file" made_again $block $share 1
done
check "a block file cut short" made_again $block cut 1
check "an empty block file" made_again $block empty 1
for share in 0 3 50 97; do
  check "a flipped byte at $share% of the gathered model" made_again model.aqlm.h5 $share
done
check "a gathered model cut short" made_again model.aqlm.h5 cut

# A digest that is damaged condemns its file: nobody can tell which of the two is wrong.
damaged digest $block.sha256 10
rm -f "$folder"/digest/model.aqlm.h5*
check "a damaged digest" goes_on digest
check "... is said" says digest "$block"

# A job that died when it began to write a block's file left the block's layers and the state of its tuning.
FAULT='create:*/blocks/block-0002.h5*:1:kill' quietly alone midway

# made_again_midway FILE HOW LAYERS: the same for a file of the block in work; so many layers are fitted again.
made_again_midway() {
  rm -rf "$folder/run"
  cp -r "$folder/midway" "$folder/run"
  local file=$folder/run/work/block-0002/$1 told
  told=$(events run)
  if [ "$2" = cut ]; then truncate -s $(($(size_of "$file") / 2)) "$file"; else flip "$file" $(($(size_of "$file") * $2 / 100)); fi
  goes_on run && says run "work/block-0002/$1" && [ "$(layers_told run "$told" | grep -c '^2 ')" = "$3" ] && tidy run
}
for how in 1 40 97 cut; do
  check "a finished layer of a block in work, damaged ($how)" made_again_midway mlp.up_proj.h5 $how 1
  check "the state of tuning, damaged ($how)" made_again_midway tuning.state $how 0
done

# recovered FILE HOW: the damage is said, the file set aside and written again; finished blocks stay.
recovered() {
  damaged run "$1" "$2"
  rm -f "$folder"/run/blocks/block-0003.h5* "$folder"/run/model.aqlm.h5*
  local told
  told=$(events run)
  goes_on run && says run "$folder/run/$1.*damaged" && [ -e "$folder/run/$1.damaged" ] || return 1
  matches "$1" && [ "$(layers_told run "$told" | wc -l)" = 7 ]
}
for share in 10 50 95; do
  check "a flipped byte at $share% of config.yaml" recovered config.yaml $share
  check "a flipped byte at $share% of identity.txt" recovered identity.txt $share
done
check "a config.yaml cut short" recovered config.yaml cut
check "an empty identity.txt" recovered identity.txt empty
damaged run config.yaml 50
check "a damaged config.yaml opens no way for other settings" ends_with_1 alone run --set run.seed=9
check "... whose blocks stay" [ "$(finished_blocks run | wc -l)" = 4 ]

# Events are for people: a job does not depend on them.
for how in 0 20 60 cut; do
  damaged run metrics.jsonl $how
  rm -f "$folder"/run/blocks/block-0003.h5* "$folder"/run/model.aqlm.h5*
  check "metrics.jsonl damaged ($how)" goes_on run
  check "... and status reads it" "$program" status "$folder/run" >"$folder/status.log"
done

# Orphans and a torn last line, as kills leave them.
damaged run metrics.jsonl cut
rm -f "$folder"/run/blocks/block-0003.h5* "$folder"/run/model.aqlm.h5*
printf '{"event":"layer","rank":0,"blo' >>"$folder/run/metrics.jsonl"
for name in blocks/block-0003.h5 model.aqlm.h5 config.yaml lock.elsewhere.1; do echo half >"$folder/run/$name.partial"; done
check "orphaned temporary files and a torn line" goes_on run
check "... are cleared" tidy run
check "... and the torn line ends" grep -q '^{"event":"start"' <(tail -n 60 "$folder/run/metrics.jsonl" | tac)

# The source model changed: refused by its content.
cp -r examples/tiny-llama "$folder/model"
settings+=(--set "model=$folder/model")
reference=$folder/moved/model.aqlm.h5
alone moved
cp -r "$folder/moved" "$folder/changed"
rm -f "$folder"/changed/blocks/block-0003.h5* "$folder"/changed/model.aqlm.h5*
touch "$folder/model/model.safetensors"
check "a source model that was only touched" goes_on changed
rm -f "$folder"/changed/blocks/block-0003.h5* "$folder"/changed/model.aqlm.h5*
cp "$folder/model/model.safetensors" "$folder/weights"
flip "$folder/model/model.safetensors" $(($(size_of "$folder/weights") - 1000))
touch -r "$folder/weights" "$folder/model/model.safetensors"
check "a source model with one other byte is refused" ends_with_1 alone changed
check "... by name" says changed 'another model'
cp "$folder/weights" "$folder/model/model.safetensors"
check "... and goes on with the right one" goes_on changed
finish
