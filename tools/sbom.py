"""Write the bill of materials, CycloneDX 1.6: `python -m tools.sbom --out sbom.json`; without --out it is printed.

Libraries are those of `systemd/locked/`, with the hashes of the files that may be installed, and the extra of each.
Models are those of the manifest, with hash, licence and origin. Equal input gives an equal list on every machine.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from edge import __version__
from edge.models.manifest import load_manifest
from tools import lock

NAME = "edge-face-runtime"


def document() -> str:
    """Return the bill of materials as CycloneDX JSON."""
    bom = Bom()
    product = Component(
        name=NAME,
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref=NAME,
        purl=PackageURL("pypi", None, NAME, __version__),
        licenses=[DisjunctiveLicense(id="Apache-2.0")],
    )
    bom.metadata.component = product
    bom.components.update([*_libraries(), *_models()])
    bom.register_dependency(product, bom.components)
    written = json.loads(JsonV1Dot6(bom).output_as_string())
    del written["metadata"]["timestamp"], written["serialNumber"]  # they would differ at each run
    written["serialNumber"] = uuid5(NAMESPACE_URL, json.dumps(written, sort_keys=True)).urn
    return json.dumps(written, indent=1, sort_keys=True)


def _libraries() -> Iterator[Component]:
    seen: set[str] = set()
    for extra in ("base", *lock.EXTRAS):
        text = (lock.FOLDER / f"{extra}.txt").read_text(encoding="utf-8")
        for name, block in lock.blocks(text).items():
            if name in seen:
                continue
            seen.add(name)
            version = re.split(r"==|\s", block)[1]
            hashes = re.findall(r"sha256:([0-9a-f]{64})", block)
            files = [Property(name="edge:sha256", value=digest) for digest in hashes]  # one of them is installed
            yield Component(
                name=name,
                version=version,
                type=ComponentType.LIBRARY,
                bom_ref=f"pypi:{name}",
                purl=PackageURL("pypi", None, name, version),
                properties=[Property(name="edge:extra", value=extra), *files],
            )


def _models() -> Iterator[Component]:
    for entry in load_manifest().models:
        for backend, file in entry.files.items():
            yield Component(
                name=f"{entry.name} ({backend})",
                version=file.sha256[:16],
                type=ComponentType.MACHINE_LEARNING_MODEL,
                bom_ref=f"model:{entry.name}:{backend}",
                description=entry.source,
                licenses=[DisjunctiveLicense(name=entry.licence)],
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)],
                properties=[Property(name="edge:file", value=file.path)],
            )


def main() -> int:
    """Write or print the bill of materials; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.sbom", description=__doc__)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.out is None:
        print(document())
    else:
        asked.out.write_text(document() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
