"""Simulate many devices whose events reach one PostgreSQL exactly once, over a broker cluster with faults.

docs/fleet.md describes it.
"""
