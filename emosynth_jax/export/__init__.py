"""Forms in which a trained network leaves the project; the command is export.py."""
