#!/usr/bin/env bash
# Everything that a GPU decides, in one command, for a machine with one CUDA GPU, Python 3.12 and
# torch >= 2.8 but without a network. Writes one report, gpu_report.md, and goes on after a part that fails.
#
#   scripts/gpu_wheels.sh                  # where there is a network: fetches what such a machine lacks
#   scripts/gpu_check.sh                   # there
#   scripts/gpu_check.sh --dry-run         # all parts at tiny sizes, without a GPU
#   scripts/gpu_check.sh --help            # the other options
#
# PYTHON names the interpreter that has torch (default: python3), GPU_WHEELS the folder of wheels (default: gpu_wheels).
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
python=${PYTHON:-python3}
wheels=${GPU_WHEELS:-$here/gpu_wheels}

if compgen -G "$wheels/*.whl" >/dev/null; then
  place=$(mktemp -d)
  trap 'rm -rf "$place"' EXIT
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$place" "$wheels"/*.whl
  export PYTHONPATH="$place${PYTHONPATH:+:$PYTHONPATH}"  # before the packages that are there
fi
"$python" "$here/scripts/gpu_check.py" "$@"
