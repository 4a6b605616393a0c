"""Networks in Flax NNX, and the loaders of published weights, one file per origin."""
