"""Numbers with their units, as people read them."""

from __future__ import annotations


def shown_size(count: float) -> str:
    """Return a number of bytes as "183 B", "65.6 kB" or "1.2 GB" (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
