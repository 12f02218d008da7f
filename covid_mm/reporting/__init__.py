"""What is written for people from a checkpoint's meta.json: the model card and docs/results.md."""
