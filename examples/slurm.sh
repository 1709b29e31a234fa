#!/usr/bin/env bash
# A sweep on a SLURM cluster: sbatch examples/slurm.sh CONFIG.yaml
#
# One process per GPU; srun starts them and they find each other. Victims, speech, the folder of rows
# and $JAXSER_CACHE must lie on a file system that all nodes share. Run it again to go on.
#SBATCH --job-name=jaxser-sweep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
set -euo pipefail

config=${1:?give the sweep file: sbatch examples/slurm.sh CONFIG.yaml}
export JAXSER_CACHE=${JAXSER_CACHE:-$PWD/.jaxser-cache}

# shellcheck source=/dev/null
source "${VENV:-.venv}/bin/activate"
# One process that fails or is killed leaves the others to finish.
srun --kill-on-bad-exit=0 python -m jaxser.sweep "$config"
