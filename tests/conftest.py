"""What every test shares."""

from hypothesis import settings

# The same examples in every run, whatever the machine's load; nothing is written beside the tests.
settings.register_profile("mcast", deadline=None, derandomize=True, max_examples=60, database=None)
settings.load_profile("mcast")
