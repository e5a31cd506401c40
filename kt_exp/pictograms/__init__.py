"""An embedded world of drawn things with names, and a small CLIP trained on it."""
