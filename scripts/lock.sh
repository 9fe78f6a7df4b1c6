#!/bin/sh
# Writes requirements.txt, requirements-dev.txt and requirements-docs.txt anew: scripts/lock.sh PYTHON.
# What is locked already stays as it is unless UPGRADE=--upgrade.
# On the oldest Python we support, so that what only it needs is in.
set -eu
python=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pip-tools

# Our own package is built with these, without pip's isolation, so they are locked too.
printf 'hatchling\neditables\n' > "$work/build.in"

compile() {
    "$work/venv/bin/pip-compile" --quiet ${UPGRADE:-} --generate-hashes --strip-extras --allow-unsafe --resolver=backtracking \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate --no-header "$@"
}
compile --output-file requirements.txt pyproject.toml "$work/build.in"
for group in dev docs; do
    "$work/venv/bin/python" - "$group" > "$work/$group.in" <<'PYTHON'
import sys, tomllib
groups = tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]
print("\n".join(groups[sys.argv[1]]))
PYTHON
    compile --output-file "requirements-$group.txt" --constraint requirements.txt "$work/$group.in"
done
for file in requirements.txt requirements-dev.txt requirements-docs.txt; do
    { printf '# Locked by "make lock"; what we ask for stands in pyproject.toml.\n'; cat "$file"; } > "$work/locked"
    cp "$work/locked" "$file"
done
