"""Each loss as plain Python loops over numbers: slow, obvious, and independent of the engine."""
