"""Stage 2: fine-tuning, so that the name of the concept finds its images."""
