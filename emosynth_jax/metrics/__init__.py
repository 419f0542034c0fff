"""Metrics of predictions, their statistics, tables and plots."""
