"""The stages of the pipeline, and the rooms that hold their skills."""

import os

# Threads that wait for work give their core back after a moment (libgomp reads this when torch loads). By default
# they spin for so long that two programs on one machine slow each other down many times over.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
