#!/usr/bin/env bash
# Pretrain on several machines with torchrun. Start the same command on every machine:
#   bash examples/torchrun_pretrain.sh STORE RUN NODES GPUS_PER_NODE FIRST_NODE
# STORE and RUN must be on a file system that all machines see. Run it again: it goes on.
set -euo pipefail
store=${1:?STORE} run=${2:?RUN} nodes=${3:-1} gpus=${4:-1} first=${5:-localhost}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
exec torchrun --nnodes "$nodes" --nproc-per-node "$gpus" \
    --rdzv-backend c10d --rdzv-endpoint "$first:29500" --rdzv-id eegm2 \
    -m eegm2 pretrain "$store" --out "$run" \
    --preset eegm2 --width 64 --window-s 10 --epochs 500 --batch-size 256 --workers 4 \
    --accelerator gpu --devices "$gpus" --num-nodes "$nodes" --strategy ddp --precision bf16-mixed
