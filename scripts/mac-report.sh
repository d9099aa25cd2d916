#!/usr/bin/env bash
# mac-report.sh [FILE]: what a Mac's GPU computes and how fast, in one text file to send: system and commit, the Metal tests, single ops as a
# program calls them (each result evaluated), and ops in batches with the implementation that ran. FILE: build/mac-report.txt.
# PRESET: the build to take (fast); SECONDS_PER_OP: how long each op is measured (0.1); JOBS: compilers at once.
set -euo pipefail
source "$(dirname "$0")/stages.sh"
preset=${PRESET:-fast}
report=${1:-build/mac-report.txt}
seconds=${SECONDS_PER_OP:-0.1}

if [ "$(uname)" != Darwin ] && [[ $preset != emulated-* ]]; then
  echo "mac-report: needs a Mac with Apple silicon; PRESET=emulated-metal tries it on the stand-in, whose figures are a CPU's" >&2
  exit 2
fi
mkdir -p "$(dirname "$report")"
part=$report.partial
trap 'rm -f "$part"' EXIT
section() { printf '\n== %s\n' "$*" | tee -a "$part"; }
# Into the report and onto the terminal; a failure is part of the report.
run() { "$@" >> "$part" 2>&1 || printf 'exit status %s: %s\n' $? "$*" | tee -a "$part"; }

build "$preset" candela_cli test_metal test_ops
: > "$part"
section system
run git log -1 --format='commit %H, %cs'
run uname -srm
if [ "$(uname)" = Darwin ]; then
  run sw_vers
  run sysctl -n machdep.cpu.brand_string hw.memsize
  run xcrun --sdk macosx --show-sdk-version
fi
run "build/$preset/candela" devices
section "tests of the Metal backend"
run env CANDELA_REQUIRE_METAL=1 ctest --preset "$preset" -R '^metal\.|^ops_on_metal\.' --output-on-failure
section "ops as a program calls them, one at a time: candela bench table"
run "build/$preset/candela" bench table --device metal --dtype f32 --seconds "$seconds"
run "build/$preset/candela" bench table --device metal --dtype bf16 --seconds "$seconds"
section "ops in batches, with what ran: candela bench ops"
for op in matmul lora_linear softmax rms_norm attention linear_cross_entropy; do
  run "build/$preset/candela" bench ops --device metal --op "$op" --batched --why --seconds "$seconds"
done
mv "$part" "$report"
echo "mac-report: wrote $report"
