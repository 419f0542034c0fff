"""The data sets, one loader a file."""
