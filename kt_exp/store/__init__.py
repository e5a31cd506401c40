"""Stage results by signature, and the leases that guard them."""

from kt_exp.store.store import Entry, Store, signature

__all__ = ["Entry", "Store", "signature"]
