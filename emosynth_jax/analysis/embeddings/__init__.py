"""Embeddings of trained runs, their projections and separation."""
