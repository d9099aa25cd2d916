#!/usr/bin/env bash
# check-apple-sdk.sh SDK_DIR [TARGET]: compiles every source of the Apple build, the Metal tests among them, against a real SDK, headers only: no linking, no Mac needed. Fails on any
# error or warning. SDK_DIR holds System/Library/Frameworks, usr/include and usr/include/c++/v1. Needs clang 14 or later.
# CXX picks the compiler, JOBS how many run at once.
set -euo pipefail

usage="usage: scripts/check-apple-sdk.sh SDK_DIR [TARGET (arm64-apple-macos13)]"
sdk=${1:?$usage}
target=${2:-arm64-apple-macos13}
root=$(cd "$(dirname "$0")/.." && pwd)
cxx=${CXX:-clang++}
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}

for part in System/Library/Frameworks/Metal.framework System/Library/Frameworks/MetalPerformanceShaders.framework usr/include/c++/v1/vector; do
  [ -e "$sdk/$part" ] || { echo "check-apple-sdk: $sdk has no $part; $usage" >&2; exit 2; }
done

# Headers of the packages that the project uses. They come from the system here, each linked by name into a folder of its own, so that nothing else of the
# system's include folders is seen.
work=$(mktemp -d "${TMPDIR:-/tmp}/check-apple-sdk.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/packages"
link_package() {  # link_package NAME: false if no folder has it
  local folder
  for folder in ${PACKAGE_INCLUDE:-} /usr/include /usr/local/include /opt/homebrew/include /opt/homebrew/opt/libarchive/include; do
    [ -e "$folder/$1" ] && { ln -s "$folder/$1" "$work/packages/$1"; return; }
  done
  return 1
}
for package in fmt nlohmann hwy CLI yaml-cpp pcre2.h utf8proc.h gtest; do
  link_package "$package" || { echo "check-apple-sdk: the headers of $package were not found; set PACKAGE_INCLUDE" >&2; exit 2; }
done
# The property tests are compiled where RapidCheck is at hand, as in the build.
rapidcheck=""
link_package rapidcheck && link_package rapidcheck.h && rapidcheck=-DCANDELA_RAPIDCHECK
# So are the optional libraries: libarchive is a package, libcurl is in the SDK.
optional=""
link_package archive.h && link_package archive_entry.h && optional=-DCANDELA_LIBARCHIVE
[ ! -e "$sdk/usr/include/curl/curl.h" ] || optional="$optional -DCANDELA_LIBCURL"

# What the build generates is part of it: the embedded shaders.
"$cxx" -std=c++20 "$root/cmake/embed_shaders.cpp" -o "$work/embed_shaders"
shaders=()
for shader in "$root"/src/backend/metal/shaders/*.metal; do shaders+=("$(basename "$shader" .metal)=$shader"); done
"$work/embed_shaders" "$work/embedded_shaders.cpp" "${shaders[@]}"

# Sources that are for other systems say so in their folder or name (cuda/, *.cu); everything else is built on a Mac.
find "$root/src" "$root/cases" "$root/tests/metal" \( -name '*.cpp' -o -name '*.mm' \) -not -path '*/backend/cuda/*' | sort > "$work/sources"
echo "$work/embedded_shaders.cpp" >> "$work/sources"

# What Apple's clang defines and other clangs do not: the target's system by the name that holds for all of Apple's systems.
system=${target##*macos}
major=${system%%.*}
minor=0
[[ $system != *.* ]] || minor=$(cut -d. -f2 <<< "$system")
[[ $major =~ ^[0-9]+$ && $minor =~ ^[0-9]+$ ]] || { echo "check-apple-sdk: TARGET must end with macosMAJOR or macosMAJOR.MINOR; got $target" >&2; exit 2; }

cat > "$work/flags" <<FLAGS
-target $target -isysroot "$sdk" -nostdinc++ -isystem "$sdk/usr/include/c++/v1" -isystem "$work/packages"
-std=c++20 -fsyntax-only -Werror -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wunguarded-availability
-fno-fast-math -ffp-contract=off -fvisibility=hidden -DNDEBUG -DCANDELA_METAL -DCANDELA_MPS -DCANDELA_VERSION='"0"'
-D__ENVIRONMENT_OS_VERSION_MIN_REQUIRED__=$((major * 10000 + minor * 100))
-I"$root/include" -I"$root/src" -I"$root" -I"$root/tests" -DCANDELA_SOURCE_DIR='"$root"' $rapidcheck $optional
FLAGS
# Objects of Grand Central Dispatch are Objective-C objects there, in Objective-C.
(cat "$work/flags"; echo "-DOS_OBJECT_HAVE_OBJC_SUPPORT=1") > "$work/flags.mm"

compile() {
  local log
  log=$(mktemp "$WORK/log.XXXXXX")
  local flags=$WORK/flags
  [[ $1 != *.mm ]] || flags=$WORK/flags.mm
  "$COMPILER" @"$flags" "$1" > "$log" 2>&1 && return 0
  echo "FAILED $1"
  cat "$log"
  return 1
}
export -f compile
export WORK=$work COMPILER=$cxx
count=$(wc -l < "$work/sources")
echo "check-apple-sdk: $count sources for $target against $sdk"
if ! xargs -P "$jobs" -I SOURCE bash -c 'compile "SOURCE"' < "$work/sources"; then
  echo "check-apple-sdk: FAILED" >&2
  exit 1
fi
echo "check-apple-sdk: all $count sources compile without a warning"
