"""Networks as files for programs without Python, each compared with the network that it was made of."""
