"""What other slices, noise and kernels do to the score."""
