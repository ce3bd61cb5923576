"""The helper process: one thread, one loop, a fork per request.

Rules of this file
  1. Nothing of a request is done in the helper itself, so nothing of a request can hurt the next one.
  2. The helper holds the agent's end of nothing: the answer socket goes to the child, the helper's copies are closed.
  3. It ends with the agent: by end of file on the control socket, and by SIGKILL from the kernel if that comes first.

SIGINT and SIGTERM are ignored: they reach the whole group or unit, and the agent may still need its helper then.
A child has no handlers, and an alarm: one that hangs dies, and with it goes what it had half made.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import traceback
from typing import NoReturn

import msgspec

from vxlanu.errors import VxlanuError
from vxlanu.nsopen import syscalls, tun, wire
from vxlanu.nsopen.place import Place

CHILD_SECONDS = 20  # longer than any caller waits (client.TIMEOUT_S), so that it never cuts short what is wanted
PR_NAME = "vxlanu-ns"


def serve(control: socket.socket, agent: int) -> NoReturn:
    """Life of the helper, from just after the fork. Never returns into the agent's program."""
    try:
        control = _settle_in(control)
        syscalls.die_with_parent(agent)
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        private = _own_nursery()
        _load()
        while True:
            _next_request(control, home, private)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _settle_in(control: socket.socket) -> socket.socket:
    """Keep standard error and the control socket; everything else of the agent's is not ours to hold open."""
    kept = 3
    os.dup2(control.fileno(), kept, inheritable=False)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    control.detach()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as name:
        name.write(PR_NAME)
    return socket.socket(fileno=kept)


def _own_nursery() -> bool:
    """False without the privilege: then every child makes one where it may (place.py)."""
    try:
        syscalls.new_net()
    except OSError:
        return False
    return True


def _load() -> None:
    """Import here, once, what every child needs (0.2 s), and after the fork: the agent never carries it.

    No garbage is collected from here on: a child that looked for some would copy every page that it shares with the
    helper, and ends before it matters; what the helper itself does with a request makes no cycles.
    """
    from vxlanu.nsopen import egress, look, probe, service, survey, tap, uplink

    _ = egress, look, probe, service, survey, tap, uplink
    gc.disable()
    gc.freeze()


def _next_request(control: socket.socket, home: int, private: bool) -> None:
    request, fds, whole = syscalls.receive_fds(control, wire.REQUEST_BYTES, 2)
    if not request:
        os._exit(0)  # the agent has closed, or ended
    with contextlib.suppress(OSError):  # no process to be had: the caller sees its answer socket close
        if whole and fds and os.fork() == 0:
            control.close()
            _child(request, fds[0], Place(home, fds[1] if len(fds) > 1 else None, private))
    for fd in fds:
        os.close(fd)


def _child(request: bytes, answer_to: int, place: Place) -> NoReturn:
    """Do one request, answer, end. Ending without an answer is how a crash looks from outside."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(CHILD_SECONDS)
        answer, fds = _perform(request, place)
        _send(socket.socket(fileno=answer_to), answer, fds)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _perform(raw: bytes, place: Place) -> tuple[wire.Answer, list[int]]:
    try:
        request: wire.Request = msgspec.msgpack.decode(raw, type=wire.Request)
        return _do(request, place)
    except VxlanuError as why:
        return wire.Failure(why.name, why.what, why.why, why.hint), []
    except Exception as why:
        traceback.print_exc()
        return wire.Failure("kernel_refused", "work in a namespace", f"{type(why).__name__}: {why}"), []


def _do(request: wire.Request, place: Place) -> tuple[wire.Answer, list[int]]:
    from vxlanu.nsopen import egress, look, probe, service, survey, tap, uplink

    match request:
        case wire.TapPlan():
            return tap.create(place, request)
        case wire.AdoptTap():
            return tap.adopt(place, request)
        case wire.DeleteTap():
            return wire.Deleted(tap.delete(place, request.tag)), []
        case wire.EgressGround():
            return egress.ground(place, request), []
        case wire.EgressWire():
            return egress.wire(place, request), []
        case wire.EgressCut():
            return wire.Deleted(egress.cut(place, request.tag)), []
        case wire.EgressLook():
            return wire.Lacking(look.lacking(request.ways)), []
        case wire.ProbeTap():
            return probe.features(place), []
        case wire.OpenUplink():
            return uplink.open_uplink(place, request)
        case wire.NewNamespace():
            return wire.NamespaceMade(), [service.new_namespace()]
    place.go_to_target()
    match request:
        case wire.ListLinks():
            return wire.Links(survey.links()), []
        case wire.ListAddresses():
            return wire.Addresses(survey.addresses()), []
        case wire.ListRoutes():
            return wire.Routes(survey.routes()), []
        case wire.AskRoute():
            return wire.RouteAnswer(survey.route_to(request.address)), []
        case wire.AskPaths():
            return wire.PathsAnswer(survey.path_mtus(request.addresses)), []
        case wire.AskHops():
            return uplink.next_hops(request), []
        case wire.OpenSockets():
            return wire.SocketsMade(len(request.addresses)), service.open_sockets(request)


def _send(channel: socket.socket, answer: wire.Answer, fds: list[int]) -> None:
    """Answer; if nobody listens any more, what was made goes with our descriptors."""
    body = msgspec.msgpack.encode(answer)
    try:
        sent = socket.send_fds(channel, [body], fds) if fds else 0
        channel.sendall(body[sent:])
    except OSError:
        if fds and isinstance(answer, wire.TapFacts) and answer.created:
            tun.set_persistent(fds[0], False)
