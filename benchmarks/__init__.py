"""Measurements: the speed of training, and the search that chose the rates."""
