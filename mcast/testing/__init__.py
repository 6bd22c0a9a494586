"""What users' own tests need: a whole cluster in one process, and a check that a machine is deterministic."""

from mcast.testing.cluster import Cluster, cluster
from mcast.testing.determinism import NondeterminismError, deterministic

__all__ = ["Cluster", "NondeterminismError", "cluster", "deterministic"]
