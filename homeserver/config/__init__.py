"""Everything an administrator decides: one pydantic model per section, one file each.

`load` reads a YAML file and the environment; `dev_config` is what `--dev` means. A `Config` is immutable and complete:
no other part of the server reads files or variables to find out what it should do.
"""

from homeserver.config.dev import dev_config
from homeserver.config.listeners import Listener
from homeserver.config.load import ConfigError, load, parse
from homeserver.config.root import Config

__all__ = ["Config", "ConfigError", "Listener", "dev_config", "load", "parse"]
