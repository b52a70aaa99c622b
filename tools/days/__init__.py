"""Simulated days of wearers with the real power governor: what it reaches, and what other policies would."""
