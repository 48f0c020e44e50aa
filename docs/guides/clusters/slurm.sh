#!/bin/bash
# A sweep on the nodes of one Slurm job, submitted in the repository, on a file system that all nodes share:
#   mkdir -p runs && sbatch docs/guides/clusters/slurm.sh 'lr=0.003,0.01' 'seed=range(0,50)' --threads 4
# To resume, for example after the time limit, submit the same command again.
#SBATCH --job-name=sweep
#SBATCH --output=runs/sweep-%j.log
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=08:00:00
# --exclusive: at the end, `ray stop` stops every Ray of yours on these nodes, whichever job it belongs to.
set -euo pipefail
. .venv/bin/activate

# A token for this job alone; srun hands it to every node.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # seconds; a slow file system needs more than Ray's 30

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 \
  ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" -- \
  env RAY_ADDRESS="$head:6379" reprocnn sweep "$@"
