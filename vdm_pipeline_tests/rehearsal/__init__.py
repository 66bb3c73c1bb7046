"""The real models' architectures with random weights, in their repositories' layout, and the large profile run on them."""
