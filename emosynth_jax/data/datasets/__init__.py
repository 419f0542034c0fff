"""Data set loaders, one per file."""
