#!/usr/bin/env bash
# A sweep on a Cloud TPU pod slice: TPU=my-v5e-16 ZONE=us-west4-a examples/tpu_pod.sh CONFIG.yaml
#
# One process per host, each with its own chips. jaxser[tpu] must be installed in ~/jaxser/.venv on
# every host, and CONFIG.yaml and all that it names lie under SHARED, a Filestore (NFS) mount.
set -euo pipefail

config=${1:?give the sweep file, relative to SHARED}
tpu=${TPU:?give the name of the TPU}
zone=${ZONE:?give its zone}
shared=${SHARED:-/mnt/shared}

gcloud compute tpus tpu-vm ssh "$tpu" --zone="$zone" --worker=all --command="
  cd '$shared' &&
  JAXSER_CACHE='$shared/.jaxser-cache' \
  ~/jaxser/.venv/bin/python -m jaxser.sweep '$config' --coordinator auto"
