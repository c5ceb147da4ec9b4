#!/usr/bin/env bash
# The tests in three stages: pure ones, those with real parts on this machine, those on the cluster.
# Arguments go to pytest (make test ARGS="-k sync"); a path among them runs that alone.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.local/bin:$PATH"
python=.venv/bin/python
NO_TESTS_COLLECTED=5

run_pytest() {
  "$python" -m pytest "$@"
}

# make passes ARGS on in the environment.
if (($# == 0)) && [[ -n ${ARGS:-} ]]; then
  eval "set -- $ARGS"
fi

names_a_path() {
  local argument
  for argument in "$@"; do
    [[ $argument != -* && -e ${argument%%::*} ]] && return 0
  done
  return 1
}

if names_a_path "$@"; then
  echo "== tests: $*"
  run_pytest "$@"
  exit
fi

ran=0
failed=()
# stage TITLE PREPARE PATH… -- PYTEST ARGUMENTS…
stage() {
  local title=$1 prepare=$2 status=0 begin=$SECONDS
  shift 2
  local paths=()
  while [[ $1 != -- ]]; do paths+=("$1"); shift; done
  shift
  echo "== $title"
  # With a selection such as -k, a stage that has none of it must not cost a cluster.
  run_pytest "${paths[@]}" "$@" --collect-only -q >/dev/null 2>&1 || status=$?
  if ((status == NO_TESTS_COLLECTED)); then
    echo "== $title: nothing selected"
    return 0
  fi
  status=0
  $prepare && run_pytest "${paths[@]}" "$@" || status=$?
  ran=1
  if ((status == 0)); then
    echo "== $title: passed in $((SECONDS - begin)) s"
  else
    echo "== $title: FAILED ($status) after $((SECONDS - begin)) s"
    failed+=("$title")
  fi
}

nothing() { :; }
cluster() { make --no-print-directory cluster; }

stage "unit, property and simulation tests" nothing tests/unit tests/simulation -- "$@"
stage "component tests" cluster tests/component -- "$@"
stage "end-to-end tests" cluster e2e -- --durations=15 "$@"

if ((!ran)); then
  echo "== no test matches: $*"
  exit "$NO_TESTS_COLLECTED"
fi
if ((${#failed[@]})); then
  printf '== failed: %s\n' "${failed[@]}"
  exit 1
fi
echo "== all stages passed in $SECONDS s"
