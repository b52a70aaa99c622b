"""Simulated days of wearers with the real power governor, compared with other policies."""
