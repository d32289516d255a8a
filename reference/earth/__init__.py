"""Earth observation: what only satellites see, the same place in other seasons and through other sensors."""
