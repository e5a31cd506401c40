"""Zero-shot classification: known classes and new concepts, or a closed set."""
