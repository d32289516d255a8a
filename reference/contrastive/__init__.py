"""Contrastive learning: pull views of one image together, push other images away."""
