#!/bin/sh
# Print a Python >= 3.11: $1 (a minor version such as 3.13) or the first that is found.
set -eu

works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if [ $# -gt 0 ]; then names="python$1" want=$1; else names="python3 python3.13 python3.12 python3.11" want=3; fi
for name in $names; do
    if works "$name"; then command -v "$name"; exit 0; fi
done
for path in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$want"*/bin/python; do
    if works "$path"; then echo "$path"; exit 0; fi
done
[ $# -gt 0 ] || echo "Python 3.11 or newer is needed and none was found; set PYTHON=/path/to/python" >&2
exit 1
