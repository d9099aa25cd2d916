#!/usr/bin/env bash
# Installs what building Candela needs, from the platform's package manager; says nothing if all of it is there.
# setup.sh [check]: with "check", also what `make check` needs beyond `make test`: on Linux, the stand-in for Metal and the sanitizers.
# setup.sh has stand-in|fuzzer: installs nothing; succeeds if this system can build and run Objective-C++ as the stand-in for Metal does,
# or a libFuzzer target under the address sanitizer. `make check` leaves out the stages whose answer is no.
set -euo pipefail
cd "$(dirname "$0")/.."

# RapidCheck is named only where it is packaged: without it the property tests draw their arguments by themselves.
debian=(g++ cmake ninja-build pkg-config make git libdnnl-dev ocl-icd-opencl-dev libhwy-dev nlohmann-json3-dev libcli11-dev libfmt-dev
  libyaml-cpp-dev libpcre2-dev libutf8proc-dev libgtest-dev librapidcheck-dev xz-utils libedit-dev libarchive-dev libcurl4-openssl-dev)
debian_check=(ccache clang libomp-dev libgnustep-base-dev gobjc++ libblocksruntime-dev clang-format)
brew=(cmake ninja pkgconf highway nlohmann-json cli11 fmt yaml-cpp pcre2 utf8proc googletest libarchive)
fedora=(gcc-c++ clang cmake ninja-build pkgconf make git onednn-devel highway-devel json-devel cli11-devel fmt-devel
  yaml-cpp-devel pcre2-devel utf8proc-devel gtest-devel xz libedit-devel libarchive-devel libcurl-devel)
fedora_check=(ccache compiler-rt libomp-devel clang-tools-extra)
arch=(gcc clang cmake ninja pkgconf make git onednn highway nlohmann-json cli11 fmt yaml-cpp pcre2 libutf8proc gtest rapidcheck xz libedit libarchive curl)
arch_check=(ccache compiler-rt openmp)

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_debian() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "Installing: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Objective-C++ with blocks over GNUstep's Foundation and GCC's runtime, as emulator/cmake/objcxx.cmake puts it together.
has_stand_in() {
  local objc
  command -v clang++ >/dev/null && command -v gnustep-config >/dev/null || return 1
  objc=$(find /usr/lib/gcc -path '*/include/objc/objc.h' 2>/dev/null | sort -V | tail -n 1)
  [ -n "$objc" ] || return 1
  cat > "$work/probe.mm" <<'PROGRAM'
#import <Foundation/Foundation.h>
#include <Block.h>
int main() {
  NSObject* object = [[NSObject alloc] init];
  int (^count)() = Block_copy(^{ return static_cast<int>([object retainCount]); });
  return count() > 0 ? 0 : 1;
}
PROGRAM
  clang++ -w -fobjc-runtime=gcc -fblocks -fexceptions -fobjc-exceptions -fconstant-string-class=NSConstantString \
    -DGNUSTEP=1 -DGNUSTEP_BASE_LIBRARY=1 -DGNU_RUNTIME=1 -D_NATIVE_OBJC_EXCEPTIONS=1 -isystem emulator/include \
    -isystem "$(gnustep-config --variable=GNUSTEP_SYSTEM_HEADERS)" -idirafter "${objc%/objc/objc.h}" "$work/probe.mm" -o "$work/probe" \
    -L"${objc%/include/objc/objc.h}" -lBlocksRuntime -lgnustep-base -lobjc 2>/dev/null && "$work/probe" >/dev/null 2>&1
}

has_fuzzer() {
  command -v clang++ >/dev/null || return 1
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' > "$work/probe.cpp"
  clang++ -fsanitize=fuzzer,address,undefined "$work/probe.cpp" -o "$work/probe" 2>/dev/null && "$work/probe" -runs=1 >/dev/null 2>&1
}

# What `make check` will leave out, and why. On Debian and its kin everything is packaged, so there it is an error.
report_check() {
  local left_out=()
  has_stand_in || left_out+=("emulated-metal and analyze: they need clang, GNUstep's base library for GCC's Objective-C runtime, GCC's
    Objective-C++ and the blocks runtime (Debian: clang libgnustep-base-dev gobjc++ libblocksruntime-dev)")
  has_fuzzer || left_out+=("fuzz: it needs clang with its sanitizers and libFuzzer (Debian: clang libclang-rt-*-dev)")
  [ ${#left_out[@]} -gt 0 ] || return 0
  echo "setup: \`make check\` leaves out these stages here:"
  printf '  %s\n' "${left_out[@]}"
  ! command -v apt-get >/dev/null
}

case "${1:-}" in
  "" | check | has) ;;
  *) echo "setup: expected nothing, check, or has stand-in|fuzzer; got $*" >&2; exit 2 ;;
esac
work=$(mktemp -d "${TMPDIR:-/tmp}/setup.XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ "${1:-}" = has ]; then
  case "${2:-}" in
    stand-in) has_stand_in ;;
    fuzzer) has_fuzzer ;;
    *) echo "setup: has: expected stand-in or fuzzer; got ${2:-nothing}" >&2; exit 2 ;;
  esac
  exit
fi

check=${1:-}
if command -v apt-get >/dev/null; then
  install_debian "${debian[@]}" ${check:+"${debian_check[@]}"}
  # The run-time libraries of the sanitizers and of libFuzzer are packaged by clang's version.
  [ -z "$check" ] || has_fuzzer || install_debian "libclang-rt-$(clang++ -dumpversion | cut -d. -f1)-dev"
elif command -v brew >/dev/null; then
  missing=()
  for package in "${brew[@]}"; do
    brew list --versions "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] || brew install "${missing[@]}"
elif command -v dnf >/dev/null; then
  as_root dnf install -y -q "${fedora[@]}" ${check:+"${fedora_check[@]}"}
elif command -v pacman >/dev/null; then
  as_root pacman -S --needed --noconfirm "${arch[@]}" ${check:+"${arch_check[@]}"}
else
  cat <<'LIST'
No package manager that this script knows (apt-get, brew, dnf, pacman). Please install:
  a C++20 compiler (g++ 12 or clang 14, or newer), CMake 3.25, Ninja, pkg-config, make
  oneDNN 2.6 or newer (not on macOS), Highway 1.0.3, nlohmann-json 3.11, CLI11 2.1, fmt 9, yaml-cpp 0.7, PCRE2, utf8proc
  GoogleTest 1.12, for the tests; RapidCheck, if at hand, for the property tests; xz, which unpacks a tokenizer of theirs
  libedit, if at hand: `candela chat` edits its lines with it
  libarchive, if at hand: compressed data (.gz, .xz, .zst) is read with it; libcurl, if at hand: `candela pull` fetches with it
then run cmake --preset portable && cmake --build --preset portable, and the tests with ctest --preset portable.
`make check` needs, on Linux:
  clang 14 with libomp, the sanitizers and libFuzzer (compiler-rt)
  for the stand-in for Metal: GNUstep's base library for GCC's Objective-C runtime, GCC's Objective-C++ and the blocks runtime
  ccache, if at hand: its builds share most of their sources
LIST
  exit 1
fi
if [ -n "$check" ] && [ "$(uname)" = Linux ]; then report_check; fi
