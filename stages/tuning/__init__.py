"""Rates tuned on equal terms: the draws of every arm, what they came to, and what follows from it."""
