"""The cluster key: AES-256-GCM over every datagram and every stream frame.

The key file holds 32 random bytes in base64. Nonces come from the caller: 96 random bits are safe for 2^32 messages of
one key (NIST SP 800-38D, 8.3), which is a decade of a busy cluster. `context` keeps a datagram from being replayed as a
stream frame. A shared key says "member", not "which member": node certificates are a later step.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .core.errors import LocalError

__all__ = ["NONCE_BYTES", "Seal", "load_key", "new_key"]

NONCE_BYTES = 12
TAG_BYTES = 16
KEY_BYTES = 32


class Seal:
    """Implements core.config.Sealer."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise LocalError("key_invalid", f"{len(key)} bytes where {KEY_BYTES} are needed")
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, nonce: bytes, context: bytes) -> bytes:
        """nonce + ciphertext + tag."""
        return nonce + self._cipher.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes) -> bytes | None:
        """The plain bytes, or None when the key is another one or the bytes were changed."""
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            return None
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except InvalidTag:
            return None


def new_key() -> str:
    """The text of a new key file."""
    return base64.b64encode(AESGCM.generate_key(bit_length=8 * KEY_BYTES)).decode() + "\n"


def load_key(path: Path) -> bytes:
    """The 32 bytes of a key file. LocalError says what is wrong with it, without showing it."""
    try:
        key = base64.b64decode(path.read_bytes().strip(), validate=True)
    except (OSError, binascii.Error) as error:
        raise LocalError("key_invalid", f"{path}: {error}") from error
    if len(key) != KEY_BYTES:
        raise LocalError("key_invalid", f"{path}: {len(key)} bytes where {KEY_BYTES} are needed")
    return key
