"""Hypothesis: no deadlines, since machines stall, and the same examples in every CI run."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("everywhere", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("everywhere"), derandomize=True)
settings.register_profile("soak", settings.get_profile("everywhere"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "everywhere"))
