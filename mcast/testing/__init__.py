"""What users' own tests need: a whole cluster in one process, and a check that a machine is deterministic."""

from mcast.testing.cluster import Cluster, cluster
from mcast.testing.determinism import NondeterminismError, deterministic
from mcast.testing.runs import RunHandlerError, same_in_runs

__all__ = ["Cluster", "NondeterminismError", "RunHandlerError", "cluster", "deterministic", "same_in_runs"]
