#!/usr/bin/env bash
# A sweep on Ray: examples/ray.sh CONFIG.yaml [WORKERS]
#
# Without RAY_ADDRESS on this machine alone, one worker per GPU (or WORKERS on its CPU). For several
# machines, first on one of them:    ray start --head --port=6379
# and on each of the others:         ray start --address=HEAD:6379
# then here:                         RAY_ADDRESS=HEAD:6379 examples/ray.sh CONFIG.yaml
# Victims, speech and the folder of rows must be under the same path on all of them.
set -euo pipefail

config=${1:?give the sweep file}
workers=${2:+--workers=$2}

# shellcheck source=/dev/null
source "${VENV:-.venv}/bin/activate"
# shellcheck disable=SC2086  # no flag at all without WORKERS
python -m jaxser.sweep "$config" --engine ray $workers
