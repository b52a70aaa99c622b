"""What the project promises, shown by command: `python -m tools.proof NAME`, documented in docs/VERIFY.md.

Each proof is one module of this folder with `CLAIM`, a sentence, and `prove(short, say)`, which returns its figures or
raises AssertionError saying what did not hold. The tests run the short forms, `make proof` the full ones.
"""
