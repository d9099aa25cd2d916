#!/usr/bin/env bash
# sanitize.sh [PRESET...]: the tests under clang's sanitizers: all of the CPU build's in asan and tsan, the Metal backend's and the stand-in's in
# emulated-asan and emulated-tsan (fewer rounds of the stress tests); or in those that are named. Too slow for every push: about an hour on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(getconf _NPROCESSORS_ONLN)
[ $# -gt 0 ] || set -- asan tsan emulated-asan emulated-tsan
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_OBJCXX_COMPILER_LAUNCHER=ccache CCACHE_NOHASHDIR=1
fi
export CANDELA_REQUIRE_METAL=1 CANDELA_STRESS_ROUNDS=50
for preset in "$@"; do
  echo "== $preset"
  targets=()
  only=()
  # The CPU's own tests run in the other two presets.
  if [[ $preset == emulated-* ]]; then
    targets=(--target test_metal test_ops test_emulator emulator_shader_tests)
    only=(-R '^(metal|emulator|emulator_shader|ops_on_metal)\.')
  fi
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset" --parallel "$jobs" ${targets[@]+"${targets[@]}"}
  ctest --preset "$preset" --parallel "$jobs" ${only[@]+"${only[@]}"}
done
