#!/usr/bin/env bash
# test.sh [JOBS]: everything that continuous integration runs, from set-up to the last test.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-$(getconf _NPROCESSORS_ONLN)}

build() {  # build PRESET [TARGET...]
  cmake --preset "$1" >/dev/null
  local preset=$1
  shift
  cmake --build --preset "$preset" --parallel "$jobs" ${1:+--target "$@"}
}

scripts/setup.sh tests

echo "== portable: the CPU build, all tests"
build portable
ctest --preset portable --parallel "$jobs" --output-on-failure

if [ "$(uname)" = Darwin ]; then
  echo "== fast: the Metal build, all tests"
  build fast
  ctest --test-dir build/fast --parallel 1 --output-on-failure
  exit 0
fi

echo "== emulated-metal: the Metal backend against the stand-in"
build emulated-metal test_metal test_emulator emulator_shader_tests candela_support
ctest --preset emulated-metal --parallel "$jobs" --output-on-failure -R '^(metal|emulator|emulator_shader|support)\.'

echo "== asan: the parsers, fuzzed for some seconds each under the address and undefined-behaviour sanitizers"
build asan candela_fuzzers
ctest --preset asan --parallel "$jobs" --output-on-failure -R '^fuzz\.'
