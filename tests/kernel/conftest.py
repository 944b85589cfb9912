"""What holds for all kernel tests: no agent says that a limit is bypassed unless the test has made it so."""

from __future__ import annotations

import pytest

from bandwidth_lab import node

no_false_alarm = pytest.fixture(autouse=True)(node.no_false_alarm)
