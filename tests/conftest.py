"""What every test shares."""

import signal

from hypothesis import settings

# The same examples in every run, whatever the machine's load; nothing is written beside the tests.
settings.register_profile("mcast", deadline=None, derandomize=True, max_examples=60, database=None)
settings.load_profile("mcast")

# A shell that starts a program in the background has it ignore SIGINT, and all that it starts; some tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
