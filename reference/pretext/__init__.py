"""Pretext tasks: questions whose answers the images hold themselves."""
