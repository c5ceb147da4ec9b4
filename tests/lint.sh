#!/usr/bin/env bash
# Every check that needs no running system. All run, then the ones that failed are named.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export PATH="$PWD/.local/bin:$PWD/.venv/bin:$PATH"
failed=()

check() {
  local title=$1
  shift
  if output=$("$@" 2>&1); then
    echo "ok      $title"
  else
    echo "FAILED  $title"
    printf '%s\n' "$output" | sed 's/^/        /'
    failed+=("$title")
  fi
}

existing() {
  local path
  for path in "$@"; do [[ -n $(find "$path" -name '*.py' -print -quit 2>/dev/null) ]] && echo "$path"; done
}

# Names of registries and mirrors differ from place to place and belong into nobody's repository.
# The patterns are put together here so that this file does not hold what it looks for.
no_registry_hosts() {
  local dot='\.' hosts=() pattern
  hosts+=("pypi${dot}org" "pythonhosted${dot}org" "proxy${dot}golang${dot}org" "sum${dot}golang${dot}org")
  hosts+=("deb${dot}debian${dot}org" "registry${dot}npmjs${dot}org" "goproxy${dot}[a-z]+")
  hosts+=("(index|extra-index|trusted)-(url|host)[ =]" "(artifactory|nexus|devpi)[a-z0-9-]*${dot}")
  # What this machine itself is set up with, whatever it is.
  local host
  for host in $(registry_settings | grep -oE 'https?://[^/,"'"'"' ]+' | sed -E 's#^https?://([^@]*@)?##; s#:[0-9]+$##' | sort -u); do
    hosts+=("${host//./$dot}")
  done
  pattern=$(IFS='|'; echo "${hosts[*]}")
  ! git grep -nIE "$pattern" -- ':!tests/lint.sh'
}

registry_settings() {
  env | grep -E '^(PIP_|UV_|GOPROXY|npm_config_registry)'
  python -m pip config list
  go env GOPROXY GOSUMDB
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*
} 2>/dev/null

shell_scripts() {
  local scripts
  mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
  shellcheck "${scripts[@]}"
}

chart_renders() { helm template shoal charts/shoal -n shoal-system --include-crds | python tests/rendered.py; }

if ! command -v helm >/dev/null; then
  make --no-print-directory tools
fi

packages=$(existing api/shoal_api operator/shoal_operator agent/shoal_agent demo cluster benchmarks e2e)
# shellcheck disable=SC2086  # a list of paths of ours, without spaces
check "mypy --strict" mypy $packages
check "ruff check" ruff check .
check "ruff format" ruff format --check .
check "import contract" lint-imports --no-cache
check "generated CRDs and grammar" python -m shoal_api.generate --check crds/ \
  --plugin runtimes/mlserver/plugin/shoal_mlserver/grammar.py
check "generated Envoy bootstrap" python -m shoal_operator.gateway.bootstrap --check charts/shoal/files/envoy.yaml
check "generated reference of metrics" python -m tests.metrics_reference --check docs/metrics.md
check "generated reference of model servers" python -m tests.servers_reference --check docs/servers.md
check "helm lint" helm lint --quiet charts/shoal
check "rendered chart" chart_renders
check "no registry or mirror host" no_registry_hosts
check "shell scripts" shell_scripts
check "constraints cover pyproject" python tests/constraints.py

if ((${#failed[@]})); then
  printf 'lint failed: %s\n' "${failed[@]}"
  exit 1
fi
echo "lint passed"
