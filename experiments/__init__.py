"""A script for each table and figure of the thesis, and for our own questions."""
