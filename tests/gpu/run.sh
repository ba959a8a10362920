#!/usr/bin/env bash
# What a GPU does with this code, in four minutes at most and without a network: the tests marked gpu, then the table of
# `nsbgan bench`. `--device cpu` proves the script where there is no GPU; other devices: cuda (the default), cuda:N, mps.
set -euo pipefail
cd "$(dirname "$0")/../.."

device=cuda
case "$#:${1-}" in
  0:) ;;
  2:--device) device=$2 ;;
  *) echo "usage: tests/gpu/run.sh [--device NAME]" >&2; exit 2 ;;
esac
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1

python -m pytest -n0 -m gpu tests/gpu --device "$device" --durations=5
quick=()
if [ "$device" = cpu ]; then quick=(--quick); fi
python -m nsbgan_infer bench --table batches --device "$device" "${quick[@]}"
