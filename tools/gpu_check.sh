#!/usr/bin/env bash
# Everything that needs a CUDA machine, in under nine minutes: tests/hardware, ceilings, two sweeps.
#
#   tools/gpu_check.sh FOLDER        # leaves summary.md, tests.txt, machine.json, runs.tar.gz, report.html, one trace, log.txt
#
# Needs python3 (or $PYTHON) with torch and Triton and the packages of pyproject.toml; fbgemm-gpu is optional. Packages that are
# not installed can come from outside: PYTHONPATH=site tools/gpu_check.sh FOLDER. No network is used.
set -uo pipefail
[ $# = 1 ] || { echo "usage: tools/gpu_check.sh FOLDER" >&2; exit 2; }
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 COLUMNS=160
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export DLRM_BENCH_CACHE="$work/cache" DLRM_BENCH_LOCK="$work/lock"
total_s=${GPU_CHECK_S:-525}
: >"$out/log.txt"
: >"$work/parts.tsv"

# part NAME SECONDS FILE COMMAND...: at most SECONDS and what is left; how it ended goes to parts.tsv.
part() {
  local name=$1 limit=$2 file=$3 left began code
  shift 3
  left=$((total_s - SECONDS))
  [ "$left" -lt "$limit" ] && limit=$left
  if [ "$limit" -lt 5 ]; then
    printf '%s\tno time left\t0\n' "$name" >>"$work/parts.tsv"
    return
  fi
  echo "== $name (at most $limit s): $*" | tee -a "$out/log.txt"
  began=$SECONDS
  # SIGTERM lets a sweep keep its records; what ignores it is killed.
  timeout -k 8 "$limit" "$@" >"$work/stdout" 2>"$work/stderr"
  code=$?
  cat "$work/stderr" >>"$out/log.txt"
  if [ "$file" = - ]; then cat "$work/stdout" >>"$out/log.txt"; else cp "$work/stdout" "$out/$file"; fi
  case $code in
    0) ended="done" ;;
    124 | 130 | 137) ended="ran out of time (killed after $limit s)" ;;
    *) ended="ended with exit code $code" ;;
  esac
  printf '%s\t%s\t%s\n' "$name" "$ended" $((SECONDS - began)) >>"$work/parts.tsv"
  tail -n 3 "$work/stderr"
}

part doctor 40 - "$python" -m bench doctor
part tests 190 tests.txt "$python" -m pytest -v -rs -m gpu -W default -p no:cacheprovider tests/hardware
part ceilings 110 machine.json "$python" -m bench machine --refresh --device cuda:0 --json
part "sweep embedding" 110 - "$python" -m bench sweep tools/gpu_embedding.toml --out "$work/runs"
part "sweep quick" 100 - "$python" -m bench sweep quick --axis device=cuda --set budget_s=0.3 --out "$work/runs"

"$python" -m tools.gpu_summary "$work" "$out" >>"$out/log.txt" 2>&1 || echo "the summary failed, see $out/log.txt"
cat "$out/summary.md" 2>/dev/null
# Green only where every part ended by itself and well; skipped cases are no failure.
! grep -qv $'\tdone\t' "$work/parts.tsv"
