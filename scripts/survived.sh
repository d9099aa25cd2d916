#!/usr/bin/env bash
# survived.sh [BUILD]: runs the sweeps of tests/faults at every point and writes what was tried into
# BENCHMARKS.md. CANDELA_SWEEP=some takes the sample that `make test` takes. JOBS: how many processes share the
# points; what each says goes to BUILD/survived/.
# survived.sh --table REPORT: writes the table from what a run put into the file CANDELA_SWEEP_REPORT.
set -euo pipefail
cd "$(dirname "$0")/.."

report=${2:-}
if [ "${1:-}" != --table ]; then
  build=${1:-build/portable}
  jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
  parts=$PWD/$build/survived
  rm -rf "$parts"
  mkdir -p "$parts"
  pids=()
  # Jobs of a script are deaf to Ctrl-C.
  trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true' EXIT
  for ((part = 0; part < jobs; ++part)); do
    CANDELA_SWEEP=${CANDELA_SWEEP:-full} CANDELA_SWEEP_SHARD=$part/$jobs CANDELA_SWEEP_REPORT=$parts/$part.tsv \
      "$build/tests/faults/test_faults" --gtest_brief=1 > "$parts/$part.log" 2>&1 &
    pids+=($!)
  done
  failed=0
  for part in "${!pids[@]}"; do
    wait "${pids[part]}" || { failed=1; tail -n 40 "$parts/$part.log"; }
  done
  pids=()
  [ "$failed" = 0 ] || { echo "survived: some points failed; BENCHMARKS.md is left as it is"; exit 1; }
  report=$build/survived.tsv
  cat "$parts"/*.tsv > "$report"
fi

table=$(mktemp)
trap 'rm -f "$table"' EXIT
rows=$(awk -F '\t' '{ tries[$1] += $2; if (!seen[$1]++) order[++n] = $1 }
                    END { for (i = 1; i <= n; ++i) printf "| %s | %d |\n", order[i], tries[order[i]] }' "$report")
awk -v rows="$rows" '
  /<!-- survived: end -->/ { inside = 0 }
  !inside { print }
  /<!-- survived: begin -->/ { inside = 1; print "| what was tried | tries |\n|---|---|\n" rows }
' BENCHMARKS.md > "$table"
cat "$table" > BENCHMARKS.md
echo "survived: $(awk -F '\t' '{ sum += $2 } END { print sum }' "$report") tries, written into BENCHMARKS.md"
