"""Unicode names, compared in composed form (NFC), whichever form a system writes them in.

macOS spells "ü" in file names as two code points, most other systems as one.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path


def nfc(text: str) -> str:
    """Return `text` with composed letters."""
    return unicodedata.normalize("NFC", text)


def user_path(text: str | None) -> Path:
    """Return the path of a config key, with `~` expanded, as the folders on disk spell it."""
    return on_disk(Path(text or "").expanduser())


def on_disk(path: Path) -> Path:
    """Return `path` as its folders spell it; unchanged if there is no such path in any form."""
    if str(path).isascii() or path.exists():
        return path
    found = Path(path.anchor)
    for part in path.parts[1 if path.anchor else 0:]:
        if not (found / part).exists():
            part = next((name for name in _names(found) if nfc(name) == nfc(part)), None) or ""
            if not part:
                return path
        found /= part
    return found


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
