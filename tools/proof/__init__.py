"""Proofs of the project's claims: `python -m tools.proof NAME`, documented in docs/VERIFY.md.

Each proof is one module of this folder. It has `CLAIM`, a sentence, and `prove(short, say)`, which returns figures.
`prove` raises AssertionError where the claim does not hold, and Missing where the machine lacks what the proof needs.
The tests run the short forms, `make proof` the full ones.
"""
