"""Makes downloads from the hub fail at once on a machine without network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.utils import get_session

from kt_exp.errors import UserError

_PROBE_SECONDS = 5


@contextmanager
def fails_fast_offline(needs_hub: bool) -> Iterator[None]:
    """Keep the hub's client from retrying for half a minute if there is no network."""
    if not needs_hub or constants.HF_HUB_OFFLINE or _hub_answers():
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def check_fetchable(fetch: Callable[[], object]) -> None:
    """Check that `fetch` finds its files in the local cache, or that the hub could be asked.

    Nothing is downloaded.

    Raises:
        UserError: that of `fetch`, if there is no network.
    """
    online, constants.HF_HUB_OFFLINE = not constants.HF_HUB_OFFLINE, True
    try:
        fetch()
    except UserError:
        if not (online and _hub_answers()):
            raise
    finally:
        constants.HF_HUB_OFFLINE = not online


def _hub_answers() -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=_PROBE_SECONDS)
    except Exception:
        return False
    return True
