"""What the checkpoints are worth: metrics, the paired comparison, the goal, the movement of the weights."""
