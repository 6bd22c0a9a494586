"""Clusters of real processes and network namespaces, trouble for them, and hostile traffic.

What the scenarios, the benches, the demonstration and the tools share. It starts nodes as `mcast node` does and
speaks to them as clients do. Nothing of the product imports it.
"""
