"""What holds for all tests: hypothesis measures no times, because a busy machine is no error."""

from __future__ import annotations

import os

import hypothesis

hypothesis.settings.register_profile(
    "project",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize="CI" in os.environ,  # what lands or not must not depend on luck; elsewhere new cases are welcome
)
hypothesis.settings.load_profile("project")
