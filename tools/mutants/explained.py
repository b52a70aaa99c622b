"""Surviving mutants with the reason; `equal: …` where the mutant behaves as the original does in every run."""

from __future__ import annotations

# module: function: change → why no test notices
EXPLAINED: dict[str, str] = {
    "edge/files.py: create: without os.O_NOFOLLOW": "equal: with O_CREAT | O_EXCL the kernel follows no link anyway",
}
