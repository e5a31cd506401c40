"""Stage 1: images that the model itself matches to a description, starting from noise."""
