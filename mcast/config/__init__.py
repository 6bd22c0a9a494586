"""The cluster file: one TOML that every node and every client of a cluster reads."""

from mcast.config.file import load_config, parse_config
from mcast.config.model import DEFAULT_MACHINE, Config, NodeConfig, split_address
from mcast.config.template import default_config

__all__ = ["DEFAULT_MACHINE", "Config", "NodeConfig", "default_config", "load_config", "parse_config", "split_address"]
