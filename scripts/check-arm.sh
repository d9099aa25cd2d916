#!/usr/bin/env bash
# check-arm.sh [SYSROOT]: builds for 64-bit ARM and runs the ops' cases under QEMU: correctness only, no claim of speed. For Debian, as root, with the
# packages debootstrap, qemu-user and g++-aarch64-linux-gnu. SYSROOT (by default build/arm64-sysroot) is filled with ARM's headers and libraries
# first if it is not there. About 5 minutes to build and 10 to run on 2 cores.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
sysroot=$(realpath -m "${1:-$root/build/arm64-sysroot}")
cd "$root"
packages=libc6-dev,libstdc++-12-dev,libdnnl-dev,ocl-icd-opencl-dev,libhwy-dev,nlohmann-json3-dev,libcli11-dev,libfmt-dev,libyaml-cpp-dev,libpcre2-dev,libutf8proc-dev,libgtest-dev,librapidcheck-dev

for tool in cmake ninja debootstrap qemu-aarch64 aarch64-linux-gnu-g++; do
  command -v "$tool" >/dev/null || {
    echo "check-arm: $tool was not found (Debian: apt-get install cmake ninja-build debootstrap qemu-user g++-aarch64-linux-gnu)" >&2
    exit 2
  }
done

if [ ! -e "$sysroot/complete" ]; then
  # Downloaded only: nothing of it needs to run.
  debootstrap --foreign --arch=arm64 --variant=minbase --include="$packages" bookworm "$sysroot" http://deb.debian.org/debian >/dev/null
  for package in "$sysroot"/var/cache/apt/archives/*.deb; do dpkg -x "$package" "$sysroot"; done
  touch "$sysroot/complete"
fi

export CANDELA_SYSROOT=$sysroot
cmake --fresh -G Ninja -S . -B build/arm64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O2 -g1 -DNDEBUG" -DCANDELA_EXAMPLES=OFF >/dev/null
cmake --build build/arm64 --parallel "$(getconf _NPROCESSORS_ONLN)" --target test_ops
qemu-aarch64 -L "$sysroot" build/arm64/tests/test_ops --gtest_brief=1 '--gtest_filter=*MatchesTheReference*:*EqualAddends*:*Specials*:Sums.*-copy/*'
