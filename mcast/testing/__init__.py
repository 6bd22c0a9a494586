"""What users' own tests need, and nothing else: a cluster in one process, checks of a machine."""

from mcast.testing.cluster import Cluster, cluster
from mcast.testing.determinism import NondeterminismError, deterministic
from mcast.testing.runs import RunHandlerError, same_in_runs

__all__ = ["Cluster", "NondeterminismError", "RunHandlerError", "cluster", "deterministic", "same_in_runs"]
