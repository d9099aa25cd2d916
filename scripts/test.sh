#!/usr/bin/env bash
# test.sh [JOBS]: everything that .ci/run runs, from set-up to the last test. What the system can not build (setup.sh says so) is left out.
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
ctest --preset portable --parallel "$jobs"

if [ "$(uname)" = Darwin ]; then
  # A Mac with Apple silicon has a GPU, and a run without it would prove little; CANDELA_REQUIRE_METAL=0 lets the Metal tests be skipped in a
  # virtual machine.
  [ "$(uname -m)" = arm64 ] && export CANDELA_REQUIRE_METAL="${CANDELA_REQUIRE_METAL:-1}"
  for preset in fast balanced; do
    echo "== $preset: a Metal build, all tests"
    build $preset
    ctest --preset $preset --parallel 1
  done
  exit 0
fi

# The presets below share most of their sources: what one has compiled the next need not. (Not for the one above: with another command line,
# all that `make demo` has built would be built again.)
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_OBJCXX_COMPILER_LAUNCHER=ccache CCACHE_NOHASHDIR=1
fi

if scripts/setup.sh has stand-in; then
  echo "== emulated-metal: the Metal backend against the stand-in, the shared cases on it, and the support table's columns"
  build emulated-metal test_metal test_ops test_emulator emulator_shader_tests candela_support
  CANDELA_REQUIRE_METAL=1 ctest --preset emulated-metal --parallel "$jobs" \
    -R '^(metal|emulator|emulator_shader|support)\.|^ops_on_metal\.'

  echo "== emulated-metal-balanced: the same without Metal Performance Shaders"
  build emulated-metal-balanced test_metal test_ops
  CANDELA_REQUIRE_METAL=1 ctest --preset emulated-metal-balanced --parallel "$jobs" -R '^metal\.|^ops_on_metal\.'

  echo "== analyze: clang's analyzer over the Objective-C++ sources"
  scripts/analyze.sh build/emulated-metal "$jobs"
else
  echo "== emulated-metal, analyze: not run; setup.sh tests says what they need"
fi

if [ -n "${CANDELA_APPLE_SDK:-}" ]; then
  echo "== apple-sdk: every source against Apple's headers"
  scripts/check-apple-sdk.sh "$CANDELA_APPLE_SDK"
else
  echo "== apple-sdk: not run; CANDELA_APPLE_SDK names no folder with Apple's headers (docs/mps.md)"
fi

if scripts/setup.sh has fuzzer; then
  echo "== fuzz: the parsers, fuzzed for some seconds each under the address and undefined-behaviour sanitizers"
  build fuzz candela_fuzzers
  ctest --preset fuzz --parallel "$jobs" -R '^fuzz\.'
else
  echo "== fuzz: not run; setup.sh tests says what it needs"
fi
