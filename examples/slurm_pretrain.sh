#!/usr/bin/env bash
# Pretrain under SLURM, one task per GPU:  sbatch examples/slurm_pretrain.sh STORE RUN
# Two minutes before the limit SLURM signals this script: it asks the processes to end, which saves their state, and
# requeues the job, which then goes on.
#SBATCH --job-name=eegm2
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=6
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --output=eegm2-%j.log
set -euo pipefail
store=${1:?STORE} run=${2:?RUN}
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
trap 'scancel --signal=TERM "$SLURM_JOB_ID"; wait "$steps" || true; scontrol requeue "$SLURM_JOB_ID"' USR1
srun eegm2 pretrain "$store" --out "$run" \
    --preset eegm2 --width 64 --window-s 10 --epochs 500 --batch-size 256 --workers 5 \
    --accelerator gpu --devices "$SLURM_NTASKS_PER_NODE" --num-nodes "$SLURM_NNODES" --strategy ddp \
    --precision bf16-mixed &
steps=$!
wait "$steps"
