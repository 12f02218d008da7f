"""Checkpoints and the predictor that answers from one."""
