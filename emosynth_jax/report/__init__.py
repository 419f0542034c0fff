"""The parts of emosynth_jax/report.py: what a page says, and how it is drawn."""
