"""How fast minissl is, measured beside the machine's own limit and beside PyTorch when it is installed."""
