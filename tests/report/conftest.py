from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fixtures.records import Sweeps

if TYPE_CHECKING:
    from fixtures.classified import Classified


@pytest.fixture
def classified(sweeps: Sweeps) -> Classified:
    from fixtures.classified import Classified  # needs torch, as no other test of reports does

    return Classified(sweeps)
