"""A resolver for tests: dnspython reads and writes, real sockets carry; what it says is in a table.

    with Responder({("www.example.org", "A"): ["203.0.113.9"]}) as resolver: ...     on 127.0.0.1, some port
    python -m dns_resolver 127.0.0.1 53 '{"www.example.org A": ["203.0.113.9"]}'     in a namespace; prints `ready`
"""

from __future__ import annotations

import errno
import json
import socket
import struct
import sys
import threading
from types import TracebackType

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Table = dict[tuple[str, str], list[str]]


def at_one_port(address: str, port: int = 0) -> tuple[socket.socket, socket.socket]:
    """A listener and a datagram socket; on any port that is free for both when it is 0."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        streams = socket.create_server((address, port), family=family)
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        try:
            datagrams.bind((address, streams.getsockname()[1]))
        except OSError as why:
            streams.close()
            datagrams.close()
            if port or why.errno != errno.EADDRINUSE:
                raise
        else:
            return streams, datagrams


class Responder:
    """Answers from `table`; NXDOMAIN for the rest, or `rcode`. `silent`: hears, and says nothing."""

    def __init__(self, table: Table, address: str = "127.0.0.1", port: int = 0) -> None:
        self.table = table
        self.rcode = dns.rcode.NXDOMAIN
        self.silent = False
        self.lies: list[bytes] = []  # sent before the answer
        self.asked: list[tuple[str, str]] = []
        self.by_stream = 0
        self.streams, self.datagrams = at_one_port(address, port)
        self.port = int(self.streams.getsockname()[1])
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._datagrams, self._streams)]

    def __enter__(self) -> Responder:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.streams.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self.streams.close()
        self.datagrams.close()

    def answer(self, data: bytes, limit: int) -> bytes:
        question = dns.message.from_wire(data)
        name, rtype = question.question[0].name, question.question[0].rdtype
        key = (name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(rtype))
        self.asked.append(key)
        response = dns.message.make_response(question, recursion_available=True)
        if key in self.table:
            response.answer.append(dns.rrset.from_text_list(name, 60, "IN", key[1], self.table[key]))
        else:
            response.set_rcode(self.rcode)
        return response.to_wire(max_size=limit, prefer_truncation=True)

    def _datagrams(self) -> None:
        while True:
            try:
                data, client = self.datagrams.recvfrom(65535)
            except OSError:
                return
            answer = self.answer(data, 1232)
            if self.silent:
                continue
            for lie in self.lies:
                self.datagrams.sendto(lie, client)
            self.datagrams.sendto(answer, client)

    def _streams(self) -> None:
        while True:
            try:
                connection, _ = self.streams.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                (length,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
                answer = self.answer(connection.recv(length, socket.MSG_WAITALL), 65535)
                self.by_stream += 1
                connection.sendall(struct.pack("!H", len(answer)) + answer)


def main(arguments: list[str]) -> None:
    """Until killed."""
    table = {(name, rtype): values for key, values in json.loads(arguments[2]).items() for name, rtype in [key.split()]}
    with Responder(table, arguments[0], int(arguments[1])):
        print("ready", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
