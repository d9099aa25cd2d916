#!/usr/bin/env bash
# test.sh: what `make test` runs, from set-up to the last test: the CPU build with all its tests; on a Mac the Metal builds too.
# JOBS: how many compilers and tests run at once.
set -euo pipefail
source "$(dirname "$0")/stages.sh"

stage_portable() {
  build portable
  ctest --preset portable --parallel "$jobs"
}

# A Mac with Apple silicon has a GPU, and a run without it would prove little; CANDELA_REQUIRE_METAL=0 lets the Metal
# tests be skipped in a virtual machine.
metal() {
  [ "$(uname -m)" = arm64 ] && export CANDELA_REQUIRE_METAL="${CANDELA_REQUIRE_METAL:-1}"
  build "$1"
  ctest --preset "$1" --parallel 1
}
stage_fast() { metal fast; }
stage_balanced() { metal balanced; }

scripts/setup.sh
stages=("portable: the CPU build, all tests")
if [ "$(uname)" = Darwin ]; then
  stages+=("fast: the GPU with native and vendor kernels, all tests" "balanced: the GPU with native kernels only, all tests")
fi
run_stages test.tsv "${stages[@]}"
