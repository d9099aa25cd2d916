#!/usr/bin/env bash
# nightly.sh: the long forms of what `make check` does briefly: every test under every sanitizer, sweeps of faults, clang-tidy,
# hours of fuzzing, and 64-bit ARM under QEMU. Most of a night on 2 cores. FUZZ_SECONDS: how long each fuzzer runs (360).
# JOBS: how many processes share the points of the sweeps (scripts/survived.sh), the fuzzers and the compilers.
set -euo pipefail
source "$(dirname "$0")/stages.sh"

stage_sanitizers() {
  scripts/sanitize.sh
}

stage_fuzz() {
  cmake --preset fuzz -DCANDELA_FUZZ_SECONDS="${FUZZ_SECONDS:-360}" >/dev/null
  cmake --build --preset fuzz --parallel "$jobs" --target candela_fuzzers
  ctest --preset fuzz --parallel "$jobs" -R '^fuzz\.'
}

stage_faults() {
  build portable test_faults
  scripts/survived.sh build/portable
}

stage_tidy() {
  build portable
  scripts/lint.sh --tidy
}

stage_arm() {
  if [ "$(uname -m)" = aarch64 ] || ! command -v debootstrap >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
    echo "arm: not run; it needs a Debian of another processor with the packages that scripts/check-arm.sh names"
    return
  fi
  scripts/check-arm.sh
}

scripts/setup.sh check
share_objects
# A new sweep is a function above and a line here.
run_stages nightly.tsv \
  "sanitizers: every test under the address, undefined-behaviour and thread sanitizers" \
  "faults: everything that a save does failing, killed at or without power, every allocation, random commands" \
  "tidy: clang-tidy over every source" \
  "arm: the ops' cases on 64-bit ARM, under QEMU" \
  "fuzz: the parsers and what acts on their files, for long"
