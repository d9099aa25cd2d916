#!/usr/bin/env bash
# Installs what building Candela needs, from the platform's package manager; says nothing if all of it is there.
# setup.sh [tests]: with "tests", also what `make test` needs beyond a build: on Linux, the stand-in for Metal and the sanitizers.
set -euo pipefail

# RapidCheck is named only where it is packaged: without it the property tests draw their arguments by themselves.
debian=(g++ cmake ninja-build pkg-config make git libdnnl-dev ocl-icd-opencl-dev libhwy-dev nlohmann-json3-dev libcli11-dev libfmt-dev
  libyaml-cpp-dev libpcre2-dev libutf8proc-dev libgtest-dev librapidcheck-dev)
debian_tests=(ccache clang libclang-rt-14-dev libomp-dev libgnustep-base-dev gobjc++ libblocksruntime-dev xz-utils)
brew=(cmake ninja pkgconf highway nlohmann-json cli11 fmt yaml-cpp pcre2 utf8proc googletest libomp)
fedora=(gcc-c++ clang cmake ninja-build pkgconf make git onednn-devel highway-devel json-devel cli11-devel fmt-devel
  yaml-cpp-devel pcre2-devel utf8proc-devel gtest-devel)
arch=(gcc clang cmake ninja pkgconf make git onednn highway nlohmann-json cli11 fmt yaml-cpp pcre2 libutf8proc gtest rapidcheck)

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

if command -v apt-get >/dev/null; then
  [ "${1:-}" = tests ] && debian+=("${debian_tests[@]}")
  missing=()
  for package in "${debian[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "Installing: ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
elif command -v brew >/dev/null; then
  missing=()
  for package in "${brew[@]}"; do
    brew list --versions "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] || brew install "${missing[@]}"
elif command -v dnf >/dev/null; then
  as_root dnf install -y -q "${fedora[@]}"
elif command -v pacman >/dev/null; then
  as_root pacman -S --needed --noconfirm "${arch[@]}"
else
  cat <<'LIST'
No package manager that this script knows (apt-get, brew, dnf, pacman). Please install:
  a C++20 compiler (g++ 12 or clang 14, or newer), CMake 3.25, Ninja, pkg-config, make
  oneDNN 2.6 or newer (not on macOS), Highway 1.0.3, nlohmann-json 3.11, CLI11 2.1, fmt 9, yaml-cpp 0.7, PCRE2, utf8proc
  GoogleTest 1.12, for the tests; RapidCheck, if at hand, for the property tests
then run cmake --preset portable && cmake --build --preset portable.
LIST
  exit 1
fi
