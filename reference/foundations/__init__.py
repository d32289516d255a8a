"""Representation learning: the networks of the tutorial, each learning on its own terms."""
