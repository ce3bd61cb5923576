"""Questions to one server: a number of them, one after the other, or without end. Runs inside of containers.

dns_client.py ask   datagrams|streams SERVER NAME COUNT       prints how many were answered, each asked once
dns_client.py flood datagrams|streams SERVER NAME             until it is killed
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections import deque

import dns.exception
import dns.message
import dns.query

PATIENCE_S = 3.0
CONNECTIONS = 200  # open at a time


def ask(how: str, server: str, name: str, count: int) -> int:
    answered = 0
    for _ in range(count):
        query = dns.message.make_query(name, "A")
        with contextlib.suppress(dns.exception.Timeout, EOFError, OSError):
            if how == "datagrams":
                answer = dns.query.udp(query, server, PATIENCE_S)
            else:
                answer = dns.query.tcp(query, server, PATIENCE_S)
            answered += bool(answer.answer)
    return answered


def flood_datagrams(server: str, name: str) -> None:
    query = dns.message.make_query(name, "A").to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((server, 53))
        asking.setblocking(False)
        while True:
            with contextlib.suppress(OSError):
                asking.send(query)


def flood_streams(server: str) -> None:
    """Connections that say nothing, each for as long as it takes to make the next ones."""
    held: deque[socket.socket] = deque()
    while True:
        if len(held) == CONNECTIONS:
            held.popleft().close()
        connecting = socket.socket()
        connecting.setblocking(False)
        with contextlib.suppress(OSError):
            connecting.connect_ex((server, 53))
        held.append(connecting)


def main(verb: str, how: str, server: str, name: str, count: str = "0") -> None:
    if verb == "ask":
        print(ask(how, server, name, int(count)))
    elif how == "datagrams":
        flood_datagrams(server, name)
    else:
        flood_streams(server)


if __name__ == "__main__":
    main(*sys.argv[1:])
