#!/usr/bin/env bash
# check_layers.sh ROOT: the rules of docs/design.md that a look at the sources can decide.
#
# A file includes its own folder and folders to its left in `base tensor quant model store run dist jobs`; HDF5, MPI and
# CUDA have one home each; only jobs print results or exit; files end at 450 lines and functions at 60.
# Every breach is one line; the exit status is 1 if there was any.
set -euo pipefail
cd "$1"
layers=(base tensor quant model store run dist jobs)
breaches=0

breach() { echo "$1"; breaches=$((breaches + 1)); }

folder_of() { # cuda/ is the other half of src/tensor
  case $1 in src/*) cut -d/ -f2 <<<"$1" ;; cuda/*) echo tensor ;; jobs/*) echo jobs ;; esac
}

place_of() { # of a folder in the line; folders outside of it are to everybody's right
  local i
  for i in "${!layers[@]}"; do [[ ${layers[i]} != "$1" ]] || break; done
  [[ ${layers[i]} == "$1" ]] && echo "$i" || echo 99
}

check_own_includes() { # own headers are included as "folder/name.h"
  local file=$1 own target
  own=$(place_of "$(folder_of "$file")")
  while read -r target; do
    (($(place_of "${target%%/*}") <= own)) || breach "$file includes $target, which is not to its left"
  done < <(sed -n 's/^ *# *include "\([a-z_]*\/[^"]*\)".*/\1/p' "$file")
}

check_home() { # pattern home text: whatever matches stays at home
  local file
  while read -r file; do
    [[ $file == "$2"/* ]] || breach "$file $3 outside $2"
  done < <(grep -lE "$1" "${sources[@]}")
}

check_lengths() { # a function starts in the first column and ends at the next } there
  awk '
    FNR == 1 { start = 0 }
    /^[A-Za-z_].*[^:;]$/ && !/^extern "C"/ { start = FNR }
    /^}$/ && start && FNR - start >= 60 { print FILENAME ":" start " is a function of " FNR - start + 1 " lines" }
    /^}/ { start = 0 }
    FNR == 451 { print FILENAME " is longer than 450 lines" }' "$@"
}

folders=(src jobs)
[[ ! -d cuda ]] || folders+=(cuda)
mapfile -t sources < <(find "${folders[@]}" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort)
mapfile -t suites < <(find tests -name '*.[ch]' | sort)
[[ ${#sources[@]} -gt 0 ]] || { echo "no sources under $1"; exit 1; }

for file in "${sources[@]}"; do check_own_includes "$file"; done
check_home '^ *# *include [<"]hdf5' src/store "includes HDF5"
check_home '^ *# *include [<"]mpi\.h' src/dist "includes MPI"
check_home '^ *# *include [<"](cuda|cublas|curand|nccl)[a-z_]*\.h' cuda "includes CUDA"
check_home '(^|[^a-z_])((exit|_exit|printf|puts|putchar) *\(|stdout *[,)])' jobs "prints results or exits"
while read -r line; do breach "$line"; done < <(check_lengths "${sources[@]}" "${suites[@]}")
((breaches == 0))
