#!/usr/bin/env bash
# Fetches what a machine with torch, numpy, scipy, matplotlib and tensorboard lacks for scripts/gpu_check.sh, as wheels for
# Python 3.12 on x86-64 Linux: run it where there is a network, and carry the folder.
#
#   scripts/gpu_wheels.sh                     # into gpu_wheels/, about 5 MB
#   scripts/gpu_wheels.sh scipy matplotlib    # and these, where they are missing there
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${GPU_WHEELS:-gpu_wheels}
needed=(
  lightning lightning-utilities torchmetrics fsspec tqdm packaging typing-extensions
  jsonargparse docstring-parser typeshed-client importlib-resources pyyaml
  pooch platformdirs requests urllib3 idna certifi charset-normalizer
  rich markdown-it-py mdurl pygments
  pytest pluggy iniconfig pytest-xdist execnet hypothesis sortedcontainers
)
platforms=()
for version in 2_28 2_27 2_17 2_12 2_5; do platforms+=(--platform "manylinux_${version}_x86_64"); done
"${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
  "${platforms[@]}" --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
  --constraint constraints.txt --dest "$folder" "${needed[@]}" "$@"
du -sh "$folder"
