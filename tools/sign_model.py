"""Write the signed file of a model update: `python -m tools.sign_model MANIFEST --key KEY --release N --out BUNDLE`.

The key is an Ed25519 private key, PEM: `openssl genpkey -algorithm ed25519 -out signer.pem`. The command prints the
public key for the device's setting [provision] update_key.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.models import bundle
from edge.models.manifest import MANIFEST


def main() -> int:
    """Write the signed file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?", default=MANIFEST, help="default: the built-in models")
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--release", type=int, required=True, help="one more than that of the bundle before, from 1 on")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    key = serialization.load_pem_private_key(options.key.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        print(f"error: {options.key}: not an Ed25519 key", file=sys.stderr)
        return 1
    options.out.write_bytes(bundle.pack(options.manifest, key, options.release))
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    print(f'{options.out}: {options.out.stat().st_size} bytes; [provision] update_key = "{public.hex()}"')
    return 0


if __name__ == "__main__":
    sys.exit(main())
