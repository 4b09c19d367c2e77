"""From a config to a trained network, everything to be seen in TensorBoard."""
