#!/usr/bin/env bash
# check.sh: what `make check` runs behind `make test` (whose build it uses): layout and names, the whole suite on lesser instruction
# sets, the Metal backend against the stand-in, clang's analyzer, Apple's headers, the CUDA backend, and some seconds of fuzzing.
# A stage whose packages the system lacks says so and is left out. JOBS: how many compilers and tests run at once.
set -euo pipefail
source "$(dirname "$0")/stages.sh"

has() {  # has stand-in|fuzzer: whether the system can build a stage's programs; says so where it cannot
  scripts/setup.sh has "$1" && return
  echo "-- not run here: scripts/setup.sh check says what it needs"
  return 1
}

stage_lint() {
  if ! "${CLANG_FORMAT:-clang-format}" --version 2>/dev/null | grep -q 'version 14\.'; then
    echo "-- not run here: the layout is that of clang-format 14; CLANG_FORMAT names another program"
    return
  fi
  scripts/lint.sh
}

# The whole suite as other processors run it. The package and the data do not depend on the processor, and one
# test of the benches goes through the sets by itself.
stage_lesser_sets() {
  local best set
  best=$(build/portable/candela devices | sed -n 's/^ *instruction set: //p')
  if ! CANDELA_MAX_CPU_ISA=sse4 build/portable/candela devices >/dev/null 2>&1; then
    echo "-- not run here: the baseline of this build ($best) is the only set that it runs on"
    return
  fi
  for set in avx2 sse4; do
    echo "-- as on $set (here: $best)"
    CANDELA_MAX_CPU_ISA=$set DNNL_MAX_CPU_ISA=$([ $set = avx2 ] && echo AVX2 || echo SSE41) \
      ctest --preset portable --parallel "$jobs" \
        -E '^(package|data)\.|^cli\.Bench\.GoesOnWhereTheVendorHasNoProduct$'
  done
}

stage_emulated_metal() {
  has stand-in || return 0
  build emulated-metal test_metal test_ops test_emulator emulator_shader_tests candela_support
  CANDELA_REQUIRE_METAL=1 ctest --preset emulated-metal --parallel "$jobs" \
    -R '^(metal|emulator|emulator_shader|support)\.|^ops_on_metal\.'
}

stage_emulated_metal_balanced() {
  has stand-in || return 0
  build emulated-metal-balanced test_metal test_ops
  CANDELA_REQUIRE_METAL=1 ctest --preset emulated-metal-balanced --parallel "$jobs" -R '^metal\.|^ops_on_metal\.'
}

stage_analyze() {
  has stand-in || return 0
  scripts/analyze.sh build/emulated-metal "$jobs"
}

stage_apple_sdk() {
  if [ -z "${CANDELA_APPLE_SDK:-}" ]; then
    echo "-- not run here: CANDELA_APPLE_SDK names no folder with Apple's headers (docs/mps.md)"
    return
  fi
  scripts/check-apple-sdk.sh "$CANDELA_APPLE_SDK"
}

# For one architecture. Without a GPU the tests skip, and what is proven is that the kernels compile.
stage_cuda() {
  if ! command -v nvcc >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ]; then
    echo "-- not run here: nvcc was not found"
    return
  fi
  local targets=(test_cuda) only=(-R '^cuda\.')
  if nvidia-smi -L >/dev/null 2>&1; then
    targets+=(test_ops)
    only=(-L cuda)
  fi
  cmake --preset cuda -DCMAKE_CUDA_ARCHITECTURES=90 >/dev/null
  cmake --build --preset cuda --parallel "$jobs" --target "${targets[@]}"
  ctest --preset cuda --parallel 1 "${only[@]}"
}

stage_fuzz() {
  has fuzzer || return 0
  build fuzz candela_fuzzers
  ctest --preset fuzz --parallel "$jobs" -R '^fuzz\.'
}

scripts/setup.sh check
share_objects
# A new stage is a function above and a line here; the last one ends with CTest's summary.
run_stages check.tsv \
  "lint: layout of every source" \
  "lesser-sets: the whole suite as on AVX2 and as on SSE4.2" \
  "emulated-metal: the Metal backend against the stand-in, the shared cases on it, and the support table's columns" \
  "emulated-metal-balanced: the same without Metal Performance Shaders" \
  "analyze: clang's analyzer over the Objective-C++ sources" \
  "apple-sdk: every source against Apple's headers" \
  "cuda: the kernels compiled by nvcc, and the CUDA tests" \
  "fuzz: the parsers, some seconds each under the address and undefined-behaviour sanitizers"
