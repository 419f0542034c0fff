"""Helpers that know nothing of runs, data sets or networks."""
