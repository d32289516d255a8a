"""Networks equal their twins written in PyTorch under torchvision's or timm's names: outputs, gradients, states."""
