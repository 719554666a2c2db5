#!/bin/bash
# A study on SLURM: Ray on the job's own nodes for as long as the job lasts, the study on the first of them.
#
#   sbatch --nodes=4 slurm.sh digits-warmup resources.workers=4
#
# A job that ran out of time goes on where it was: sbatch --nodes=4 slurm.sh digits-warmup resources.workers=4 --resume
#
#SBATCH --job-name=study
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --exclusive
set -euo pipefail

shared=${SHARED:-$SLURM_SUBMIT_DIR}             # a folder that every node sees
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}'):6379
RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(python -c 'import secrets; print(secrets.token_hex(32))')}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

srun ray symmetric-run --address "$address" --min-nodes "$SLURM_NNODES" -- \
  python -m study.run "$@" --address "$address" --home "$shared/studies" --storage "$shared/checkpoints"
