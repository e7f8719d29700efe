"""The runner, the prediction cache, checkpoint and resume."""
