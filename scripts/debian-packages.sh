#!/bin/sh
# Install Debian packages that are missing, where that is allowed: debian-packages.sh PACKAGE...
# Where it is not, say so and go on: the tests that need them are then skipped, with their reason.
set -eu

missing=""
for package in "$@"; do
    case $package in
        python3-venv) found="" ;;
        postgresql) found=$(find /usr/lib/postgresql -name postgres 2>/dev/null | head -n 1) ;;
        procps) found=$(command -v pgrep || true) ;;
        iproute2) found=$(command -v ip || true) ;;
        *) found=$(command -v "$package" || true) ;;
    esac
    [ -n "$found" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing"
    # RUNLEVEL=1: a server that comes with a package is not started; the tests start their own.
    apt-get update -qq &&
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
else
    echo "not installed and not installable here:$missing (apt-get install$missing)" >&2
fi
