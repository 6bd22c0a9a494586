"""Operators' programs over what the package computes, and drivers of other systems that are only measured."""
