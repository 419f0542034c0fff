"""Training and evaluation: steps, programs, state, optimizers."""
