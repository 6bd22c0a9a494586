"""`python -m mcast` is the command `mcast`."""

import sys

from mcast.cli.app import main

sys.exit(main(name="mcast"))
