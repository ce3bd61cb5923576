"""The client side of the API: HTTP and JSON over the agent's unix socket, with nothing but the standard library.

Rules of this file
  1. One method per route of the schema, with its structs; a `Reply` keeps the body as the agent sent it.
  2. Every failure is one of vxlanu.errors: what the agent answered comes back as the class it was raised in, and an
     agent that is away, hangs or is something else is told apart here.
  3. Synchronous, one connection per request: a command line asks once or twice and ends.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from vxlanu.api import schema as s
from vxlanu.errors import AgentUnreachable, BadRequest, NotFound, Refused, VxlanuError, from_reply

__all__ = ["CaptureReply", "Client", "Reply", "socket_path"]

T = TypeVar("T")

TIMEOUT_S = 10.0
"""For questions. The agent answers them from memory; ten seconds of silence is an agent that hangs."""
SLOW_TIMEOUT_S = 60.0
"""For `network create`, `attach`, `join` and `leave`, which wait for peers and for the kernel; for `drops` and
`link show`, which ask the kernel in every container's namespace."""
KEYS_WAIT_S = 30.0
"""How long one question of `kv watch` stays with the agent; then it is asked again."""
NETCHECK_TIMEOUT_S = 600.0
"""It asks 16 members at a time, each of which may take 4 s: 1 000 that are dead take four minutes."""
LINE_MAX = 1 << 20
"""One event; an endpoint with hundreds of addresses is some 20 KB."""
CAPTURE_PIECE = 1 << 20
"""What the agent's pipe holds."""
BODY_MAX = 256 << 20
"""An FDB of a million entries is about 200 MB of JSON; more than this is not an answer."""


def socket_path(given: str = "", environ: Mapping[str, str] = os.environ, uid: int | None = None) -> str:
    """Which socket to ask: --socket, $VXLANU_SOCKET, the user's own agent when not root, the host's.

    A user without an agent of their own but with the right to talk to the host's (group vxlanu) gets the host's.
    """
    chosen = given or environ.get("VXLANU_SOCKET", "")
    if chosen:
        return chosen
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    host = "/run/vxlanu/agent.sock"
    if (os.getuid() if uid is None else uid) != 0 and runtime:
        own = Path(runtime, "vxlanu/agent.sock")
        if own.exists() or not Path(host).exists():
            return str(own)
    return host


class Reply(Generic[T]):
    """One good answer: `body` is the agent's JSON, unchanged; `value` is decoded when it is first asked for."""

    __slots__ = ("_kind", "_value", "body", "index")

    def __init__(self, body: bytes, kind: type[T], index: int = 0) -> None:
        self.body = body
        self.index = index  # of the records, for `keys`
        self._kind = kind
        self._value: T | None = None

    @property
    def value(self) -> T:
        """The body as its struct; fields that this version does not know are ignored."""
        if self._value is None:
            try:
                self._value = msgspec.json.decode(self.body, type=self._kind)
            except msgspec.MsgspecError as error:
                why = f"not what {self._kind!r} looks like: {error}"
                raise VxlanuError("the agent's answer", why, name="bad_reply", hint="vxlanu status") from error
        return self._value


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a path instead of a host."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("vxlanu", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Client:
    """The API of one agent.

    `slow_timeout_s` is for requests that wait for peers or for the kernel; every request is made within `around()`,
    where a caller can say that it waits.
    """

    def __init__(
        self,
        path: str = "",
        *,
        timeout_s: float = TIMEOUT_S,
        slow_timeout_s: float = SLOW_TIMEOUT_S,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.path = socket_path(path)
        self.around = around
        self.timeout_s = timeout_s
        self.slow_timeout_s = slow_timeout_s

    def status(self) -> Reply[s.Status]:
        return self._ask("GET", "/v1/status", s.Status)

    def overview(self) -> Reply[s.Overview]:
        return self._ask("GET", "/v1/overview", s.Overview)

    def networks(self, filters: Sequence[str] = ()) -> Reply[s.Items[s.Network]]:
        return self._ask("GET", "/v1/networks", s.Items[s.Network], query={"filter": filters})

    def network(self, ref: str) -> Reply[s.NetworkDetail]:
        return self._ask("GET", f"/v1/networks/{_segment(ref)}", s.NetworkDetail)

    def network_create(self, wanted: s.NetworkCreate) -> Reply[s.Network]:
        return self._ask("POST", "/v1/networks", s.Network, send=wanted, slow=True)

    def network_remove(self, ref: str) -> Reply[s.Network]:
        return self._ask("DELETE", f"/v1/networks/{_segment(ref)}", s.Network, slow=True)

    def network_prune(self, filters: Sequence[str] = ()) -> Reply[s.Items[s.Network]]:
        return self._ask("POST", "/v1/networks/prune", s.Items[s.Network], query={"filter": filters}, slow=True)

    def pools(self, network: str = "") -> Reply[s.Items[s.AddressPool]]:
        return self._ask("GET", "/v1/pools", s.Items[s.AddressPool], query={"network": network})

    def reclaim(self, wanted: s.Reclaim) -> Reply[s.Items[s.Reclaimed]]:
        return self._ask("POST", "/v1/pools/reclaim", s.Items[s.Reclaimed], send=wanted, slow=True)

    def endpoints(self, network: str = "") -> Reply[s.Items[s.Endpoint]]:
        return self._ask("GET", "/v1/endpoints", s.Items[s.Endpoint], query={"network": network})

    def endpoint(self, ref: str) -> Reply[s.EndpointDetail]:
        return self._ask("GET", f"/v1/endpoints/{_segment(ref)}", s.EndpointDetail)

    def attach(self, wanted: s.Attach) -> Reply[s.EndpointDetail]:
        return self._ask("POST", "/v1/endpoints", s.EndpointDetail, send=wanted, slow=True)

    def detach(self, network: str, target: str) -> Reply[s.Endpoint]:
        query = {"network": network, "target": target}
        return self._ask("DELETE", "/v1/endpoints", s.Endpoint, query=query, slow=True)

    def namespaces(self) -> Reply[s.Items[s.Namespace]]:
        return self._ask("GET", "/v1/namespaces", s.Items[s.Namespace])

    def members(self) -> Reply[s.Items[s.Member]]:
        return self._ask("GET", "/v1/members", s.Items[s.Member])

    def join(self, addresses: list[str]) -> Reply[s.Joined]:
        return self._ask("POST", "/v1/members/join", s.Joined, send=s.Join(addresses), slow=True)

    def leave(self) -> Reply[s.Left]:
        return self._ask("POST", "/v1/members/leave", s.Left, slow=True)

    def forget(self, ref: str) -> Reply[s.Member]:
        return self._ask("DELETE", f"/v1/members/{_segment(ref)}", s.Member)

    def vteps(self) -> Reply[s.Items[s.Vtep]]:
        return self._ask("GET", "/v1/vteps", s.Items[s.Vtep])

    def vtep_add(self, wanted: s.VtepAdd) -> Reply[s.VtepAdded]:
        return self._ask("POST", "/v1/vteps", s.VtepAdded, send=wanted, slow=True)

    def vtep_remove(self, network: str, address: str) -> Reply[s.Vtep]:
        return self._ask("DELETE", "/v1/vteps", s.Vtep, query={"network": network, "address": address}, slow=True)

    def links(self, ref: str = "") -> Reply[s.Items[s.Link]]:
        return self._ask("GET", "/v1/links", s.Items[s.Link], query={"ref": ref}, slow=True)

    def fdb(self, network: str = "") -> Reply[s.Items[s.FdbEntry]]:
        return self._ask("GET", "/v1/fdb", s.Items[s.FdbEntry], query={"network": network})

    def neighbors(self, network: str = "") -> Reply[s.Items[s.Neighbor]]:
        return self._ask("GET", "/v1/neighbors", s.Items[s.Neighbor], query={"network": network})

    def drops(self) -> Reply[s.Items[s.Drop]]:
        return self._ask("GET", "/v1/drops", s.Items[s.Drop], slow=True)

    def stats(self) -> Reply[s.Items[s.Counters]]:
        return self._ask("GET", "/v1/stats", s.Items[s.Counters])

    def netcheck(self, member: str = "") -> Reply[s.Netcheck]:
        return self._ask("GET", "/v1/netcheck", s.Netcheck, query={"member": member}, timeout_s=NETCHECK_TIMEOUT_S)

    def verify(self) -> Reply[s.Verify]:
        return self._ask("GET", "/v1/verify", s.Verify, slow=True)

    def why(self, target: str, source: str = "") -> Reply[s.Why]:
        return self._ask("GET", "/v1/why", s.Why, query={"target": target, "from": source})

    def dns_query(self, name: str, rtype: str = "", network: str = "") -> Reply[s.NameAnswer]:
        query = {"name": name, "type": rtype, "network": network}
        return self._ask("GET", "/v1/dns", s.NameAnswer, query=query, slow=True)

    def events(self, names: list[str], network: str = "", endpoint: str = "") -> Iterator[bytes]:
        """The lines of /v1/events, for ever; those of these names only, if any are given.

        Raises:
            AgentUnreachable: also when the agent stops.
        """
        said = {"event": ",".join(names), "network": network, "endpoint": endpoint}
        target = "/v1/events?" + urlencode({key: value for key, value in said.items() if value})
        connection = _UnixConnection(self.path, self.timeout_s)
        try:
            connection.request("GET", target)
            connection.sock.settimeout(None)  # from here on silence is no fault
            answer = connection.getresponse()
            if answer.status != HTTPStatus.OK:
                raise _refusal(answer.status, answer.read(BODY_MAX))
            while (line := answer.readline(LINE_MAX)).endswith(b"\n"):  # a part of one: the agent ended in its midst
                yield line
            raise http.client.RemoteDisconnected("the stream ended")
        except (OSError, http.client.HTTPException) as error:
            raise _blame(error, self.path, self.timeout_s) from error
        finally:
            connection.close()

    def capture(self, wanted: s.CaptureWanted) -> CaptureReply:
        """Start a capture; its frames come with the reply, as pcapng."""
        connection = _UnixConnection(self.path, self.timeout_s)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/captures", body=msgspec.json.encode(wanted), headers=headers)
            connection.sock.settimeout(None)  # from here on silence is no fault
            answer = connection.getresponse()
            if answer.status != HTTPStatus.OK:
                raise _refusal(answer.status, answer.read(BODY_MAX))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _blame(error, self.path, self.timeout_s) from error
        except VxlanuError:
            connection.close()
            raise
        return CaptureReply(Client(self.path, timeout_s=self.timeout_s), connection, answer)

    def capture_stop(self, number: str) -> Reply[s.CaptureStopped]:
        return self._ask("DELETE", f"/v1/captures/{_segment(number)}", s.CaptureStopped)

    def keys(self, prefix: str, *, after: int = 0, wait_s: float = KEYS_WAIT_S) -> Reply[list[s.KeyValue]]:
        """Every key that begins with `prefix`; `after` an index, once there is a difference, or after `wait_s`."""
        query = {"recurse": "true"} | ({"index": str(after), "wait": f"{wait_s:.0f}s"} if after else {})
        path = f"/v1/kv/{quote(prefix)}"
        return self._ask(
            "GET", path, list[s.KeyValue], query=query, timeout_s=self.timeout_s + (wait_s if after else 0)
        )

    def key(self, name: str) -> Reply[list[s.KeyValue]]:
        """The one key, alone in its list."""
        return self._ask("GET", f"/v1/kv/{quote(name)}", list[s.KeyValue])

    def key_names(self, prefix: str, separator: str = "") -> Reply[list[str]]:
        query = {"keys": "true", "separator": separator}
        return self._ask("GET", f"/v1/kv/{quote(prefix)}", list[str], query=query)

    def _ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        query: Mapping[str, str | Sequence[str]] | None = None,
        send: msgspec.Struct | None = None,
        slow: bool = False,
        timeout_s: float | None = None,
    ) -> Reply[T]:
        """One request; an empty query value is left out."""
        said = {key: value for key, value in (query or {}).items() if value}
        target = f"{path}?{urlencode(said, doseq=True)}" if said else path
        timeout = timeout_s or (self.slow_timeout_s if slow else self.timeout_s)
        try:
            with self.around():
                sent = msgspec.json.encode(send) if send else None
                status, body, index = self._exchange(method, target, sent, timeout)
        except (OSError, http.client.HTTPException) as error:
            raise _blame(error, self.path, timeout) from error
        if 200 <= status < 300:
            return Reply(body, kind, index)
        raise _refusal(status, body)

    def _exchange(self, method: str, target: str, send: bytes | None, timeout: float) -> tuple[int, bytes, int]:
        connection = _UnixConnection(self.path, timeout)
        try:
            headers = {"Content-Type": "application/json"} if send is not None else {}
            connection.request(method, target, body=send, headers=headers)
            answer = connection.getresponse()
            body = answer.read(BODY_MAX + 1)
            if answer.length and len(body) <= BODY_MAX:  # a sized read ends early without a word in http.client
                raise http.client.IncompleteRead(body, answer.length)
        finally:
            connection.close()
        if len(body) > BODY_MAX:
            raise http.client.HTTPException(f"more than {BODY_MAX >> 20} MiB")
        return answer.status, body, int(answer.headers.get("X-Consul-Index", 0))


class CaptureReply:
    """A capture that runs: iterate for the pieces of its file; leaving the block ends it."""

    def __init__(self, client: Client, connection: _UnixConnection, answer: http.client.HTTPResponse) -> None:
        self.number = answer.headers.get("Capture-Id", "")
        self._client = client
        self._connection = connection
        self._answer = answer

    def __enter__(self) -> CaptureReply:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def __iter__(self) -> Iterator[bytes]:
        """To the end of the file.

        Raises:
            AgentUnreachable: the agent is gone; what came is good up to the last whole block.
        """
        try:
            while piece := self._answer.read1(CAPTURE_PIECE):
                yield piece
        except (OSError, http.client.HTTPException) as error:
            raise _blame(error, self._client.path, self._client.timeout_s) from error

    def stop(self) -> None:
        """Let it come to its end; nothing if it has."""
        with suppress(VxlanuError):
            self._client.capture_stop(self.number)


def _segment(ref: str) -> str:
    """A reference as one path segment. Empty, `.` and `..` would name another route, and nothing is called so."""
    if ref in ("", ".", ".."):
        raise NotFound(f"{ref!r}", "nothing has that name", hint="a name or the beginning of an id")
    return quote(ref, safe="")


def _refusal(status: int, body: bytes) -> VxlanuError:
    """The error that a reply other than 2xx carries; a body that is not ours is itself the failure."""
    try:
        return from_reply(msgspec.json.decode(body, type=s.ErrorReply).error)
    except msgspec.MsgspecError:
        why = f"HTTP {status} without a vxlanu error"
        return VxlanuError("the agent's answer", why, name="bad_reply", hint="vxlanu --version here and on the agent")


def _blame(error: Exception, path: str, timeout: float) -> VxlanuError:
    """Whose fault it is that no answer came."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            why, hint = f"no socket at {path}", "vxlanu agent, or --socket PATH of one that runs"
            return AgentUnreachable("agent not running", why, hint=hint, detail={"socket": path})
        case ConnectionRefusedError():
            why, hint = f"{path} is left over from an agent that is gone", "vxlanu agent"
            return AgentUnreachable("agent not running", why, hint=hint, detail={"socket": path})
        case PermissionError():
            why, hint = f"you may not open {path}", "be root or in the group vxlanu"
            return Refused("permission denied", why, hint=hint, name="permission_denied", detail={"socket": path})
        case TimeoutError():
            why = f"nothing came from {path} for {timeout:g} s; whether the request was carried out is unknown"
            return AgentUnreachable("agent does not answer", why, name="agent_timeout", hint="its log, then restart it")
        case ConnectionError() | http.client.RemoteDisconnected() | http.client.IncompleteRead():
            why = f"the connection to {path} broke; whether the request was carried out is unknown"
            return AgentUnreachable("agent went away", why, name="agent_lost", hint="vxlanu status")
        case http.client.HTTPException():
            why = f"what listens on {path} does not speak the API ({error or type(error).__name__})"
            return AgentUnreachable("no agent", why, name="not_an_agent", hint="--socket PATH")
    if "AF_UNIX path too long" in str(error):
        return BadRequest(f"socket {path}", "longer than the 107 bytes a unix socket may have", hint="--socket PATH")
    return AgentUnreachable(f"socket {path}", getattr(error, "strerror", None) or str(error), hint="vxlanu agent")
