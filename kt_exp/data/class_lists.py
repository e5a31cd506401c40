"""Lists of class names: shipped ones, and text files with a name on each line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from kt_exp.data import imagenet
from kt_exp.errors import UserError

SHIPPED: Mapping[str, Callable[[], list[str]]] = {"imagenet": imagenet.class_names}


def class_list(source: str, where: str) -> list[str]:
    """Return the distinct names of a list, in order.

    Args:
        source: a name in `SHIPPED`, or a UTF-8 text file with a name on each line; empty lines are
            ignored.
        where: the config key of `source`, for error messages.

    Raises:
        UserError: there is no such list or file, or it holds no names.
    """
    if source in SHIPPED:
        return list(dict.fromkeys(SHIPPED[source]()))
    try:
        lines = Path(source).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(where, f"cannot read '{source}' as a text file",
                        f"give {', '.join(SHIPPED)} or a file with a class name on each line"
                        ) from error
    names = list(dict.fromkeys(filter(None, map(str.strip, lines))))
    if not names:
        raise UserError(where, f"'{source}' holds no names", "write a class name on each line")
    return names
