"""Who a node is: an Ed25519 key in the state directory; the node id is the first 128 bits of SHA-256(public key).

Rules of this file: the key file is 0600, created atomically and synced before its id is used; a file that is not such a
key is refused, never overwritten (it may be the only copy of someone's identity).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .core.errors import LocalError
from .core.records import NodeId

__all__ = ["load_or_create", "node_id"]


def node_id(key: Ed25519PrivateKey) -> NodeId:
    """The id that belongs to a key."""
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return NodeId(hashlib.sha256(public).digest()[:16])


def load_or_create(path: Path) -> Ed25519PrivateKey:
    """The key in `path` (PEM, PKCS#8), made first if there is none. LocalError if the file is something else."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return _create(path)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise LocalError("identity_invalid", f"{path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise LocalError("identity_invalid", f"{path}: not an Ed25519 key")
    return key


def _create(path: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(fd, pem)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return key
