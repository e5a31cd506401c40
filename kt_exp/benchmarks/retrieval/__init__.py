"""Text-to-image and image-to-text retrieval."""
