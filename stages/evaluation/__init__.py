"""What the checkpoints are worth: metrics, the paired comparison, the goal, the change of weights and features."""
