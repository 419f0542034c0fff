"""HTML pages of trained runs."""
