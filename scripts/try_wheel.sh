#!/usr/bin/env bash
# Builds an sdist, from it a wheel, and tries the wheel outside the clone, in a new environment: the shipped configs, the
# README's first command at a small size, a sweep with its figures, a claim; then a few tests, in the unpacked sdist.
#
#   scripts/try_wheel.sh                      # pip fetches what sgdlit depends on
#   scripts/try_wheel.sh .venv/bin/python     # that environment lends what sgdlit depends on, and all but sgdlit
set -euo pipefail
cd "$(dirname "$0")/.."
clone=$PWD
unset PYTHONPATH
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
env=$place/env
mkdir "$place/elsewhere"

# Says what is run, and runs it.
try() {
  echo "+ ${*//$place\//}"
  "$@"
}

if [ $# -gt 0 ]; then
  lender=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
  "$lender" -m venv --without-pip "$env"
  pip=("$lender" -m pip --python "$env/bin/python" install -q --no-index --no-deps)
  site=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  "$lender" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/lent.pth"
else
  python3 -m venv "$env"
  pip=("$env/bin/pip" install -q -c "$clone/constraints.txt")
  "${pip[@]}" "setuptools>=77" "pytest>=8" "pytest-xdist>=3.6" "hypothesis>=6.100"
fi

# Builds what is in this folder; what is said meanwhile matters only where it fails.
build() {
  "$env/bin/python" -c "from setuptools import build_meta; build_meta.build_$1('$place')" >"$place/said" 2>&1 ||
    { cat "$place/said" && return 1; }
}
echo "+ sdist, wheel"
build sdist
tar -xzf "$place"/sgdlit-*.tar.gz -C "$place"
source=$(echo "$place"/sgdlit-*/)
(cd "$source" && build wheel)
"${pip[@]}" "$place"/sgdlit-*.whl

cd "$place/elsewhere"
found=$("$env/bin/python" -c 'import sgdlit; print(sgdlit.__file__)')
[[ $found == "$env"/* ]] || { echo "sgdlit is imported from $found, and not from the wheel"; exit 1; }
sgdlit=$env/bin/sgdlit
shipped=$("$sgdlit" configs | grep -cE '^[a-z0-9_/]+\.* ')
there=$(find "$clone/configs" -name '*.yaml' | wc -l)
[ "$shipped" -eq "$there" ] || { echo "$shipped of $there configs are in the wheel"; exit 1; }
try "$sgdlit" fit --config wrn_modified_loss --config quick --trainer.max_steps 30 --data.train_size 320 --data.test_size 100
test -f logs/quick/version_0/run_curves.png
try "$sgdlit" sweep --config sweeps/reference --sweep.seeds 2
try "$sgdlit" figure --config sweeps/reference --sweep.seeds 2
test -f sweeps/sweep_reference/figures/pairs.png
try "$sgdlit" reproduce blog:B10
cd "$source"
try "$env/bin/python" -m pytest -q -n 0 tests/unit/test_shipped.py
