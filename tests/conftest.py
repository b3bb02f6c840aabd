"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

# No deadline: a slow machine is no bug, and a test that fails now and then is one.
settings.register_profile("lograft", deadline=None)
settings.load_profile("lograft")
