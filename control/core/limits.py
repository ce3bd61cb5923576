"""Every limit of the control plane, each with its reason.

A peer that holds the cluster key may still be broken, and a port is open to anyone: whatever a message says about its
own size is compared with these before a byte of it is allocated (memberlist learned this by four fixes in 2026).
"""

from __future__ import annotations

__all__ = [
    "BODY_BYTES_MAX",
    "COUNT_MAX",
    "DATAGRAM_BYTES_MAX",
    "DELTA_BYTES_TARGET",
    "FACTS_MAX",
    "FORMAT_VERSION",
    "FRAMES_PER_STREAM_MAX",
    "FRAME_BYTES_MAX",
    "ITEMS_MAX",
    "KEY_BYTES_MAX",
    "MEMBERS_MAX",
    "MESSAGES_PER_DATAGRAM_MAX",
    "RECORDS_PER_WRITER_MAX",
    "STREAMS_IN_MAX",
    "STREAM_SECONDS_MAX",
    "SURVEYS_MAX",
    "SURVEY_SIZES_MAX",
]

FORMAT_VERSION = 1  # first byte of every datagram and stream frame; another value is refused and counted
DATAGRAM_BYTES_MAX = 1400  # fits any sane path without fragments (memberlist's UDPBufferSize)
MESSAGES_PER_DATAGRAM_MAX = 255  # a compound's count was one byte in memberlist; more never fits 1400 bytes anyway
FRAME_BYTES_MAX = 1 << 20  # one stream message; deltas are cut long before
COUNT_MAX = 1 << 56  # epochs, incarnations, versions: a node must still be able to go beyond what it hears of itself
DELTA_BYTES_TARGET = 64 << 10  # a delta frame is sent when its records reach this: bounded memory on both sides
FRAMES_PER_STREAM_MAX = 1 << 16  # 64 Ki frames x 64 KiB: beyond any real state, and a flood ends
STREAM_SECONDS_MAX = 30.0  # a whole exchange; memberlist gives 10 s, but moves it all in one message
STREAMS_IN_MAX = 128  # concurrent inbound exchanges (memberlist: 128 push/pulls)
ITEMS_MAX = 1 << 16  # array and map entries of one message
FACTS_MAX = 1 << 18  # shared facts; a removal is kept for ever, and this is 700 networks a day for a year
BODY_BYTES_MAX = 64 << 10  # one record's body
KEY_BYTES_MAX = 128  # one record's key: a network id and an IPv6 prefix need 59
MEMBERS_MAX = 1 << 16  # members and writers kept; the next one is refused and counted
SURVEYS_MAX = 32  # questions of `netcheck` being worked on, each some 30 KB of datagrams; and ways of one
SURVEY_SIZES_MAX = 64  # lengths of probes in one answer; netcheck tries a dozen
RECORDS_PER_WRITER_MAX = 1 << 17  # endpoints + blocks + tombstones of one host
