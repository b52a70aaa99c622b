"""Test equipment of tests and proofs: real brokers, both ends of an outbox, a whole device in a folder."""

from __future__ import annotations

import unittest


class Missing(unittest.SkipTest):
    """The machine lacks a requirement. pytest skips the test; a proof reports it and fails."""
