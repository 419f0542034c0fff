"""Utilities independent of runs, data sets and networks."""
