"""Scripts for each table and figure of the thesis, and further experiments."""
