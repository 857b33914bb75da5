"""The step on chosen weights, against dense steps."""
