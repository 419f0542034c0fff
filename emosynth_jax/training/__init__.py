"""Training and evaluation steps, and what a run is built from."""
