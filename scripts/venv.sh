#!/bin/sh
# Makes the virtual environment: scripts/venv.sh PYTHON FOLDER. Says which package is missing where one is.
set -eu
python=$1 venv=$2

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if ! new_enough "$python"; then
    for candidate in python3.13 python3.12 python3.11; do
        if new_enough "$candidate"; then python=$candidate; break; fi
    done
fi
if ! new_enough "$python"; then
    echo "Atrium needs Python 3.11 or newer; '$python' is $("$python" -V 2>&1 || echo 'not there')." >&2
    echo "Install one (Debian 12, Ubuntu 24.04 and later: apt-get install python3 python3-venv)," >&2
    echo "or name one: make PYTHON=/path/to/python3.12 ..." >&2
    exit 1
fi

# Where the folder will stand: the nearest one above that is there.
above=$venv
while [ ! -e "$above" ]; do above=$(dirname "$above"); done
if [ ! -w "$above" ]; then
    echo "$venv cannot be made: $(cd "$above" && pwd) cannot be written to. Name folders that can:" >&2
    echo "    make run VENV=/var/tmp/atrium DATA=/where/its/data/goes" >&2
    exit 1
fi

umask 022  # the embedded PostgreSQL may run as another user, who has to read its programs
echo "==> Making a virtual environment in $venv with $("$python" -V)"
if "$python" -c 'import ensurepip' 2>/dev/null && "$python" -m venv "$venv"; then
    :
elif "$python" -m pip --version >/dev/null 2>&1; then
    # Debian cuts venv in two; with pip at hand we can do without the other half.
    rm -rf "$venv"
    "$python" -m venv --without-pip "$venv"
    "$python" -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check pip
else
    rm -rf "$venv"
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "Python's venv is not complete here. Install it, then run the same command again:" >&2
    echo "    apt-get install python$version-venv" >&2
    exit 1
fi
