"""Every bound of the agent's DNS, each with its reason."""

from __future__ import annotations

ANSWER_TTL_S = 5  # a name must go soon after its endpoint; five seconds spare a busy client most of its questions
MISSING_TTL_S = 1  # what is not there yet may be there in a moment: `docker compose up` asks before it has started all

REQUEST_BYTES_MAX = 4096  # a question has at most 255 bytes of name; the rest is padding and options
UDP_PAYLOAD = 1232  # the longest answer without fragments on every path (DNS flag day 2020); an overlay's MTU is 1450
UDP_PAYLOAD_PLAIN = 512  # without EDNS (RFC 1035, 4.2.1)
STREAM_BYTES_MAX = 65535

DATAGRAM_ADDRESSES_MAX = 32  # of a name that has many; 28 of them fit where EDNS is not spoken
STREAM_ADDRESSES_MAX = 512  # 8 KB; some 2 ms of the loop
ADDRESSES_PER_TOKEN = 32  # what one question of the rate below may cost; whoever asks for more has fewer questions
ADDRESSES_KEPT = 16384  # as read, and as written; some 5 MB each: names of hundreds may be asked for 500 times a second
DATAGRAMS_AT_ONCE = 64  # read in one turn of the loop; what else waits there has its turn too
RATE_PER_S = 500.0  # of one client; one thread that resolves without pause asks about as often
BURST = 1000.0
MUTED_S = 1.0  # who asks faster than that is not heard for so long,
HEARD_AGAIN = 50.0  # and has so many questions then: all that a flood costs in a second
MUTED_MAX = 16  # of each IP version; a filter of 16 IPv6 addresses has a third of what net.core.optmem_max allows
CLIENTS_MAX = 4096  # remembered; whoever was silent longest is forgotten, with a full bucket

STREAMS_MAX = 64  # TCP connections of one network
STREAMS_OF_CLIENT_MAX = 8
ACCEPT_AGAIN_S = 1.0  # without descriptors a listener stays readable, and would be asked in every turn of the loop
STREAM_IDLE_S = 10.0  # RFC 7766, 6.2.3: seconds

FORWARDS_MAX = 512  # questions on their way to the host's resolvers, each with a socket of its own
FORWARDS_OF_CLIENT_MAX = 64
TRY_S = 1.5  # for one resolver; all tries together stay below the five seconds after which clients ask again
TRIES_MAX = 3
ANSWERS_LOOKED_AT_MAX = 32  # that are not the answer to our question: a guesser of ids gets no more than that
RESOLVERS_MAX = 3  # of resolv.conf, as in the C library
RESOLVERS_CHECKED_S = 1.0  # how soon a changed resolv.conf counts
