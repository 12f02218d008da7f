"""From a trained and measured network to a checkpoint that is served."""
