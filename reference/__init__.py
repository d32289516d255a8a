"""The tutorial in code, chapter by chapter. `python -m reference` lists the chapters."""
