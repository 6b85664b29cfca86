"""Learning rates: from an arm to a rate for each layer group, and on to an optimizer."""
