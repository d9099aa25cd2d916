# What test.sh, check.sh and nightly.sh share; sourced, it goes to the project's root. A stage is a function
# `stage_NAME`; `run_stages` runs those that are named and stops at the first that fails.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}

build() {  # build PRESET [TARGET...]
  local preset=$1
  shift
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset" --parallel "$jobs" ${1:+--target "$@"}
}

# The presets beside `portable` share most of their sources: what one has compiled the next need not.
# (`portable` goes without: with another command line, all that `make demo` has built would be built again.)
share_objects() {
  if command -v ccache >/dev/null; then
    export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_OBJCXX_COMPILER_LAUNCHER=ccache CCACHE_NOHASHDIR=1
  fi
}

# Seconds in user code of this shell and of what it has waited for. Into a file: a pipe would be a shell of its own.
user_seconds() {
  times > build/times
  awk '{split($1, t, /[ms]/); sum += 60 * t[1] + t[2]} END {printf "%d\n", sum}' build/times
}

# run_stages FILE "NAME: what it does"...: what each took, in seconds, goes to build/FILE.
run_stages() {
  local table=build/$1 stage name begun user
  shift
  mkdir -p build
  printf 'stage\twall\tuser\n' > "$table"
  for stage in "$@"; do
    name=${stage%%:*}
    begun=$SECONDS
    user_seconds > build/user_before
    echo "== $stage"
    "stage_${name//-/_}"
    user_seconds > build/user_after
    printf '%s\t%d\t%d\n' "$name" $((SECONDS - begun)) $(($(cat build/user_after) - $(cat build/user_before))) >> "$table"
  done
}
