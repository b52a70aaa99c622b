"""What tests and proofs stand on: real brokers, the two ends of an outbox, a whole device in a folder."""

from __future__ import annotations

import unittest


class Missing(unittest.SkipTest):
    """What is asked for is not on the machine; pytest skips the test, a proof says so and fails."""
