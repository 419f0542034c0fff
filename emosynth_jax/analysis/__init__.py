"""Analyses of trained networks: saliency, embeddings, loss landscapes, curvature."""
