"""Lock the packages of an installation: `python -m tools.lock` writes systemd/locked/*.txt (`pip install uv` first).

Each file pins versions and the hashes of all their files, for every platform and Python. `base.txt` holds the product's
dependencies, `build.txt` those of its build, each other file those that an extra adds. Versions are those of
tools/constraints.txt.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "systemd/locked"
EXTRAS = ("enroll", "gauge", "heic", "metrics", "sface", "tflite")
_BUILD = "setuptools>=77\nwheel\n"
_HEAD = "# Written by `python -m tools.lock`: versions, and hashes of all their files.\n"


def main() -> int:
    """Write all files; returns the exit code."""
    uv = shutil.which("uv")
    if uv is None:
        print("error: this needs uv: pip install uv", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    base = blocks(_compiled(uv, "pyproject.toml"))
    files = {"base": base, "build": blocks(_compiled(uv, "-", given=_BUILD))}
    for extra in EXTRAS:
        whole = blocks(_compiled(uv, "pyproject.toml", "--extra", extra))
        files[extra] = {name: text for name, text in whole.items() if name not in base}
        assert all(whole[name] == text for name, text in base.items())  # noqa: S101  # one version of each, for all
    for name, content in files.items():
        (FOLDER / f"{name}.txt").write_text(_HEAD + "".join(content.values()), encoding="utf-8")
    return 0


def blocks(text: str) -> dict[str, str]:
    """Return the requirements of a locked file by name, each with its hashes."""
    found = re.findall(r"^[a-z0-9][^\n]*\\\n(?:    [^\n]*\n)+", text, re.MULTILINE)
    return {re.split(r"[=\s;]", block, maxsplit=1)[0]: block for block in found}


def _compiled(uv: str, source: str, *options: str, given: str | None = None) -> str:
    command = [
        uv,
        "pip",
        "compile",
        source,
        *options,
        "--universal",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
    ]
    command += ["--no-emit-index-url", "--no-config", "-c", "tools/constraints.txt", "--python-version", "3.11", "-q"]
    return subprocess.run(command, cwd=PROJECT, input=given, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
