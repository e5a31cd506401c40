"""Stage 2: fine-tuning on the inverted images, so that the model links the name to them."""
