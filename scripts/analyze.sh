#!/usr/bin/env bash
# analyze.sh [BUILD_DIR] [JOBS]: clang's static analyzer over every Objective-C++ source of a build (a configured one with the
# stand-in for Metal, by default build/emulated-metal): retain counts, nil, dead stores. Fails on any finding.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/emulated-metal}
jobs=${2:-$(getconf _NPROCESSORS_ONLN)}
commands=$build/compile_commands.json
[ -e "$commands" ] || { echo "analyze: $commands is not there; configure first: cmake --preset emulated-metal" >&2; exit 2; }

work=$(mktemp -d "${TMPDIR:-/tmp}/analyze.XXXXXX")
trap 'rm -rf "$work"' EXIT

# One line per source: its folder, and the command that compiles it, as an analysis: no output, no launcher.
sed -n 's/^ *"directory": "\(.*\)",$/\1/p' "$commands" > "$work/folders"
sed -n 's/^ *"command": "\(.*\)",$/\1/p' "$commands" | sed 's/\\"/"/g; s/\\\\/\\/g; s/^[^ ]*ccache //; s/ -o [^ ]* -c / --analyze -o \/dev\/null /' > "$work/lines"
# Tests of what the stand-in refuses pass nil where Apple's headers forbid it: that is what they are about.
paste "$work/folders" "$work/lines" | grep '\.mm$' | grep -v '/tests/' | sort -u > "$work/sources"

analyze() {
  local folder=${1%%$'\t'*} command=${1#*$'\t'} log
  log=$(mktemp "$WORK/log.XXXXXX")
  (cd "$folder" && eval "$command -Xclang -analyzer-output=text -Xclang -analyzer-werror") > "$log" 2>&1 && return 0
  echo "FAILED ${command##* }"
  cat "$log"
  return 1
}
export -f analyze
export WORK=$work
count=$(wc -l < "$work/sources")
[ "$count" -gt 0 ] || { echo "analyze: $build compiles no Objective-C++" >&2; exit 2; }
if ! tr '\n' '\0' < "$work/sources" | xargs -0 -P "$jobs" -I SOURCE bash -c 'analyze "$1"' _ SOURCE; then
  echo "analyze: FAILED" >&2
  exit 1
fi
echo "analyze: all $count sources are clean"
