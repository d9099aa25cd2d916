#!/usr/bin/env bash
# test.sh [JOBS]: everything that continuous integration runs, from set-up to the last test.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-$(getconf _NPROCESSORS_ONLN)}

# The presets below share most of their sources: what one has compiled the next need not.
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_OBJCXX_COMPILER_LAUNCHER=ccache
fi

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
  # CANDELA_REQUIRE_METAL=1 makes the lack of a GPU a failure; without it the Metal tests are skipped there.
  echo "== fast: the Metal build, all tests"
  build fast
  ctest --test-dir build/fast --parallel 1 --output-on-failure
  exit 0
fi

echo "== emulated-metal: the Metal backend against the stand-in, the shared cases on it, and the support table's columns"
build emulated-metal test_metal test_ops test_emulator emulator_shader_tests candela_support
CANDELA_REQUIRE_METAL=1 ctest --preset emulated-metal --parallel "$jobs" --output-on-failure \
  -R '^(metal|emulator|emulator_shader|support)\.|^ops_on_metal$'

echo "== emulated-metal-balanced: the same without Metal Performance Shaders"
build emulated-metal-balanced test_metal
CANDELA_REQUIRE_METAL=1 ctest --preset emulated-metal-balanced --parallel "$jobs" --output-on-failure -R '^metal\.'

echo "== analyze: clang's analyzer over the Objective-C++ sources"
scripts/analyze.sh build/emulated-metal "$jobs"

echo "== asan: the parsers, fuzzed for some seconds each under the address and undefined-behaviour sanitizers"
build asan candela_fuzzers
ctest --preset asan --parallel "$jobs" --output-on-failure -R '^fuzz\.'
