#!/bin/sh
# Make a virtual environment with the locked versions: environment.sh PYTHON FOLDER run|test
# Does nothing, and so needs no network, when the environment is already as the lock says.
set -eu
python=$1 folder=$2 kind=$3

if [ ! -x "$folder/bin/python" ]; then
    if ! "$python" -m venv "$folder" 2>/dev/null; then
        rm -rf "$folder"
        sh scripts/debian-packages.sh python3-venv # Debian ships venv apart from Python.
        "$python" -m venv "$folder"
    fi
fi
pip="$folder/bin/python -m pip --disable-pip-version-check"
grep -v '^-e ' "requirements/$kind.lock" > "$folder/requirements.txt"
# The lock is complete, and nothing is to be looked for beside it: pip takes "coverage[toml]" for another
# package than the "coverage" that is locked, and asks for its newest release.
$pip install --quiet --no-deps --require-hashes -r "$folder/requirements.txt"
$pip install --quiet --no-deps --no-build-isolation -e .
touch "$folder/.run" "$folder/.$kind"
