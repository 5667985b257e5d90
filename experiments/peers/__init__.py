"""The PyTorch side of every comparison; needs the extra `torch`."""
