"""Files of a run's workdir: config, provenance, checkpoints, metrics."""
