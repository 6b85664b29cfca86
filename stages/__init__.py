"""The stages of the pipeline, and the rooms that hold their skills."""
