"""Synapse in place of our server, to tell a driver's mistake from a server's.

    ATRIUM_TEST_COMMAND=".venv/bin/python tests/interop/synapse_serve.py --port {port} --data {data}" pytest tests/interop

The process becomes Synapse, so that killing it kills Synapse. For development on loopback and nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import synapse

EXPERIMENTS = {"experimental_features": {"msc3814_enabled": True, "msc4222_enabled": True}}


def main() -> None:
    """Writes the configuration, and the keys where there are none, and becomes Synapse."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--environment", type=Path, default=synapse.DEFAULT_ENVIRONMENT)
    arguments = parser.parse_args()
    data: Path = arguments.data
    python = str(synapse.ensure_environment(arguments.environment))
    config, log = data / "homeserver.yaml", data / "log.yaml"
    settings = synapse.SynapseSettings(port=arguments.port, extra=EXPERIMENTS)
    config.write_text(yaml.safe_dump(synapse.configuration(data, settings)))
    log.write_text("{version: 1, disable_existing_loggers: false, root: {level: WARNING}}")
    synapse_itself = [python, "-m", "synapse.app.homeserver", "-c", str(config)]
    if not (data / "signing.key").exists():
        os.spawnv(os.P_WAIT, python, [*synapse_itself, "--generate-keys"])
    os.execv(python, synapse_itself)


if __name__ == "__main__":
    main()
