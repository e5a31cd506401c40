"""Stage 3: zero-shot evaluation of the new concept and of what was known before."""
