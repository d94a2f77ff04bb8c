"""Logging, files, optimisers, checkpoints, plots. Imports nothing else of this repository."""
