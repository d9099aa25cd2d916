#!/usr/bin/env bash
# lint.sh [--tidy [BUILD_DIR]]: whether every tracked source lies as .clang-format says; with --tidy, also .clang-tidy's checks over the sources
# of a configured build (by default build/portable). Fails on any finding. Newer versions of the tools want other things: the project is laid out
# by clang-format 14. CLANG_FORMAT and CLANG_TIDY pick other programs, JOBS how many run at once.
set -euo pipefail
cd "$(dirname "$0")/.."
format=${CLANG_FORMAT:-clang-format}
tidy=${CLANG_TIDY:-clang-tidy}
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}

need() {
  command -v "$1" >/dev/null || { echo "lint: $1 was not found (Debian: apt-get install $2)" >&2; exit 2; }
}

case "${1:-}" in
  "" | --tidy) ;;
  *) echo "lint: expected nothing or --tidy [BUILD_DIR]; got $*" >&2; exit 2 ;;
esac

need "$format" clang-format
failed=0
git ls-files -z '*.cpp' '*.h' '*.mm' '*.metal' | xargs -0 -n 32 -P "$jobs" "$format" --dry-run -Werror --ferror-limit=1 2>&1 |
  sed -n 's/: error: code should be clang-formatted.*/: not as .clang-format says/p' || failed=1
if [ "$failed" = 0 ]; then echo "lint: every source lies as .clang-format says"; fi

if [ "${1:-}" = --tidy ]; then
  need "$tidy" clang-tidy
  build=${2:-build/portable}
  commands=$build/compile_commands.json
  [ -e "$commands" ] || { echo "lint: $commands is not there; configure first: cmake --preset portable" >&2; exit 2; }
  sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' "$commands" | grep "^$PWD/" | grep -v "^$PWD/build/" | sort -u | tr '\n' '\0' |
    xargs -0 -n 1 -P "$jobs" "$tidy" -p "$build" --quiet --extra-arg=-Wno-unknown-warning-option 2>/dev/null || failed=1
  if [ "$failed" = 0 ]; then echo "lint: clang-tidy finds nothing"; fi
fi
exit $failed
