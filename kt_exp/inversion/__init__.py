"""Stage 1: inversion of a description into images, from noise to what the model matches."""
