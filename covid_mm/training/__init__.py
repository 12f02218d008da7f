"""Initial weights, cached features, the fit itself, its schedule, and the run folder it resumes from."""
