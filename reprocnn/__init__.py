"""Reproducible image classification on DVC, and its tools: metric gate, network audit, sweeps, lineage."""
