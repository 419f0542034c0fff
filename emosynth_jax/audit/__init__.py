"""Audit of a data set."""
