"""Clusters to try things on. Users' own tests need what is named here: a cluster in one process, checks of a machine.

Its modules also hold what the demonstration, the benches, the scenarios and the outside test build on: clusters of real
processes, traffic, and trouble.
"""

from mcast.testing.cluster import Cluster, cluster
from mcast.testing.determinism import NondeterminismError, deterministic
from mcast.testing.runs import RunHandlerError, same_in_runs

__all__ = ["Cluster", "NondeterminismError", "RunHandlerError", "cluster", "deterministic", "same_in_runs"]
