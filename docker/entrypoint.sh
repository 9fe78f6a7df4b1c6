#!/bin/sh
# What the container does: `atrium` with the arguments of `docker run`. At the first start there is no configuration
# yet, and one is made for the name in SERVER_NAME.
set -eu

if [ "${1:-}" = serve ] && [ ! -e "$ATRIUM_CONFIG" ]; then
    if [ -z "${SERVER_NAME:-}" ]; then
        echo "There is no $ATRIUM_CONFIG yet. Say who this server is, once and for ever:" >&2
        echo "    docker run -e SERVER_NAME=example.com ..." >&2
        exit 2
    fi
    atrium init --server-name "$SERVER_NAME" --data . --address 0.0.0.0
fi
exec atrium "$@"
