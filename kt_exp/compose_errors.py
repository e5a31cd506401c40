"""One line for what Hydra and OmegaConf say of a command line they cannot compose."""

from __future__ import annotations

import re


def explain(error: Exception) -> str:
    """Return the error in one line: what is wrong, where, and what would be right."""
    messages = []
    cause: BaseException | None = error
    while cause is not None:
        messages.append(str(cause))
        cause = cause.__cause__
    text = "\n".join(messages)
    for pattern, line in _KNOWN:
        if found := re.search(pattern, text, re.DOTALL):
            return line.format(*(group.strip() for group in found.groups()))
    return messages[0].strip().splitlines()[0]


_KNOWN = [
    (r"Could not find '(.+?)/([^/']+)'\n\nAvailable options in '.+?':\n(.+?)(?:\nConfig search|$)",
     "{0}: no option '{1}'; choose one of: {2}"),
    (r"Could not override '([^']+)'\. No match in the defaults list",
     "{0}: no such config group; kt-exp --help lists them"),
    (r"Key '([^']+)' (?:is not in struct|not in '[^']*')\s+full_key: (\S+)",
     "{1}: no such key; kt-exp --cfg job lists them"),
    (r"Error merging override (.+?)\n(.+?)\n\s+full_key: (\S+)", "{2}: {1}"),
]
