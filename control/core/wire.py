"""Framing: the two bytes before every datagram and stream frame, and the seal around what follows.

    byte 0   format version
    byte 1   0 clear, 1 sealed with the cluster key, 2 "I cannot open what you sent" (streams only, no content)

A keyed node never accepts clear, a keyless one never sealed: the two never form one cluster by accident. Byte 2's value
2 is not authenticated, so it may inform a person and must not change any state.
"""

from __future__ import annotations

from .config import Rng, Sealer
from .errors import RemoteError
from .limits import DATAGRAM_BYTES_MAX, FORMAT_VERSION, FRAME_BYTES_MAX
from .messages import Message, decode_datagram, decode_message, encode_message

__all__ = ["CANNOT_OPEN", "Wire", "WrongKeyError"]

_CLEAR, _SEALED, _CANNOT_OPEN = 0, 1, 2
_NONCE_BYTES = 12
_OVERHEAD = 2 + _NONCE_BYTES + 16
_DATAGRAM, _FRAME = b"vxlanu datagram 1", b"vxlanu frame 1"
CANNOT_OPEN = bytes((FORMAT_VERSION, _CANNOT_OPEN))


class WrongKeyError(RemoteError):
    """The peer has another key, or one of us has none."""


class Wire:
    """Messages to bytes and back, under one key or none."""

    def __init__(self, sealer: Sealer | None, rng: Rng) -> None:
        self._sealer = sealer
        self._rng = rng

    @property
    def room(self) -> int:
        """How many bytes of encoded messages fit a datagram (the array header takes 3)."""
        return DATAGRAM_BYTES_MAX - _OVERHEAD - 3

    def datagram(self, encoded: list[bytes]) -> bytes:
        """One datagram of already encoded messages."""
        count = len(encoded)
        header = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
        return self._close(header + b"".join(encoded), _DATAGRAM)

    def frame(self, message: Message) -> bytes:
        """One stream frame."""
        return self._close(encode_message(message), _FRAME)

    def open_datagram(self, data: bytes) -> tuple[list[Message], list[RemoteError]]:
        """The messages in it; RemoteError when it is none of ours."""
        # Peers keep to DATAGRAM_BYTES_MAX; twice that leaves room for a later version with a larger one.
        return decode_datagram(self._open(data, 2 * DATAGRAM_BYTES_MAX, _DATAGRAM), 2 * DATAGRAM_BYTES_MAX)

    def open_frame(self, data: bytes) -> Message:
        """The message in it; RemoteError when it is none of ours."""
        return decode_message(self._open(data, FRAME_BYTES_MAX, _FRAME), FRAME_BYTES_MAX)

    def _close(self, plain: bytes, context: bytes) -> bytes:
        if self._sealer is None:
            return bytes((FORMAT_VERSION, _CLEAR)) + plain
        nonce = self._rng.getrandbits(8 * _NONCE_BYTES).to_bytes(_NONCE_BYTES, "big")
        return bytes((FORMAT_VERSION, _SEALED)) + self._sealer.seal(plain, nonce, context)

    def _open(self, data: bytes, bytes_max: int, context: bytes) -> bytes:
        if len(data) > bytes_max:
            raise RemoteError("too_large", f"{len(data)} bytes")
        if len(data) < 2:
            raise RemoteError("truncated", f"{len(data)} bytes")
        if data[0] != FORMAT_VERSION:
            raise RemoteError("format_version", f"{data[0]}, not {FORMAT_VERSION}")
        if data[1] == _CANNOT_OPEN:
            its = "a cluster key, we have none" if self._sealer is None else "another cluster key, or none"
            raise WrongKeyError("wrong_key", f"it has {its}")
        if self._sealer is None:
            if data[1] != _CLEAR:
                raise WrongKeyError("wrong_key", "it has a cluster key, we have none")
            return data[2:]
        if data[1] != _SEALED:
            raise WrongKeyError("wrong_key", "it has no cluster key, we have one")
        plain = self._sealer.open(data[2:], context)
        if plain is None:
            raise WrongKeyError("wrong_key", "it has another cluster key than we")
        return plain
