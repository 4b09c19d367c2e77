#!/usr/bin/env bash
# One training on several hosts of a Slurm cluster; stopped by its time limit or by preemption, it goes on
# by itself. Submit it from the checkout, with what `luna train` takes:
#
#   sbatch scripts/slurm_train.sh configs/segmentation-gpu.toml --set loop.batch_size=64
#   sbatch --nodes 4 --gpus-per-node 4 --time 4:00:00 scripts/slurm_train.sh configs/nodule-gpu.toml
#
# The checkout, the data, the cache of prepared scans and the runs must be in the same place on all hosts.
# loop.batch_size counts the samples of all GPUs: a multiple of their number. Run `luna prepare` before.

#SBATCH --job-name=luna-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1    # one torchrun a host, which starts one process a GPU
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96     # loop.workers of each of these processes, and some more
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120    # this script hears SIGTERM two minutes before the limit; a step takes seconds
#SBATCH --requeue              # also after preemption, or the loss of a host
#SBATCH --open-mode=append     # one log for all that the job does
#SBATCH --output=luna-%j.log

set -euo pipefail

python=${LUNA_PYTHON:-.venv/bin/python}
runs=${LUNA_RUNS:-runs}/slurm-$SLURM_JOB_ID # of this job alone; the id stays when it is queued again

# All hosts meet at the first one. The port differs from job to job, as these may share a host.
first_host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
endpoint=$first_host:$((20000 + SLURM_JOB_ID % 10000))

# The newest run of this job that has a checkpoint is the one to go on with; it keeps its config.
newest=
for checkpoint in "$runs"/*/last.pt; do
  if [[ -e $checkpoint && (-z $newest || $checkpoint -nt $newest) ]]; then
    newest=$checkpoint
  fi
done
if [[ -n $newest ]]; then
  set -- "$@" --resume "${newest%/last.pt}"
fi

# srun passes SIGTERM on to each torchrun, that to its processes. They stop after the same step, and the
# first writes a checkpoint; torchrun gives them 100 of the 120 seconds for that.
srun --kill-on-bad-exit=1 "$python" -m torch.distributed.run \
  --nnodes "$SLURM_NNODES" \
  --nproc-per-node "$SLURM_GPUS_ON_NODE" \
  --rdzv-id "$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
  --rdzv-backend c10d \
  --rdzv-endpoint "$endpoint" \
  --shutdown-timeout 100 \
  -m p2ch_luna train --runs "$runs" "$@" &
step=$!
asked_to_stop=
trap 'asked_to_stop=1; kill -TERM "$step"' TERM

code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do # the trap has interrupted the wait: the training is still ending
  code=0
  wait "$step" || code=$?
done

if [[ -n $asked_to_stop && $code -ne 0 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
