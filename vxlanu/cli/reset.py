"""`vxlanu reset`: remove every trace of an agent from this host.

Rules of this file
  1. What is removed is what an agent makes: the TAPs that its journal names, the files that lead namespaces to its
     names, the files of the state directory, the socket. Configuration and cluster key are the administrator's. A
     directory goes only if nothing else is in it.
  2. The lock of the state directory is held meanwhile, so no agent can start into the middle of it.
  3. It says what it will do before it does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from vxlanu.cli.command import Command, emit, socket_option, wants_json
from vxlanu.cli.render import printable
from vxlanu.config import load
from vxlanu.errors import Conflict, NotFound, Refused
from vxlanu.runtimes.docker.stand_in import REMOVED

if TYPE_CHECKING:
    from vxlanu.agent.journal import LocalRow
    from vxlanu.nsopen import NamespaceHelper
    from vxlanu.store import StateLock

__all__ = ["reset"]

STOP_S = 20.0  # the unit's TimeoutStopSec
STATE_FILES = ("vxlanu.db", "vxlanu.db-wal", "vxlanu.db-shm", "vxlanu.db-journal", "node.key", "lock", REMOVED)


@dataclass(frozen=True, slots=True)
class Traces:
    """What there is to remove."""

    taps: dict[str, LocalRow]
    bridge: str  # the MAC of egress's bridge, where the journal names any containers on it
    files: list[Path]
    left: list[Path]
    names: list[Path]

    def lines(self) -> Iterator[str]:
        for key, row in self.taps.items():
            yield f"interface of endpoint {key[:12]} in {printable(row.text)}"
        if self.bridge:
            yield "the bridge by which containers reach the outside, and its rules"
        yield from (str(path) for path in (*self.names, *self.files))


@click.command(
    "reset",
    cls=Command,
    examples=["vxlanu reset --dry-run", "vxlanu reset", "vxlanu reset --yes --force --state-dir /var/lib/vxlanu"],
)
@click.option("--config", metavar="FILE", help="As of the agent: where its directories are said.")
@click.option("--state-dir", metavar="DIR", help="[as of the agent]")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Stop an agent that runs.")
def reset(config: str | None, state_dir: str | None, dry_run: bool, yes: bool, force: bool) -> int:
    """Remove interfaces, state and identity of this host's agent.

    The next start is that of a new node: new identity, no endpoints, no networks but those of the others. For them
    this node is dead until it is forgotten; `vxlanu member leave` before says goodbye. Configuration and cluster key
    stay.
    """
    flags = {"config": config, "state-dir": state_dir, "socket": socket_option()}
    settings = load({key: said for key, said in flags.items() if said}, os.environ, uid=os.getuid())
    directory, socket = Path(settings.state_dir), Path(settings.socket)
    if not directory.is_dir():
        raise NotFound("reset", f"there is no state directory {directory}", hint="--state-dir DIR", name="no_state")
    from vxlanu.store import StateLock

    lock = StateLock(directory)
    _acquire(lock, force=force, dry_run=dry_run)
    try:
        traces = _find(directory, socket)
        _tell(traces, dry_run=dry_run)
        if (traces.taps or traces.bridge) and os.geteuid() != 0:
            raise Refused("reset", "interfaces in namespaces need root", hint="sudo vxlanu reset", name="need_root")
        if dry_run:
            return 0
        if not yes and not click.confirm("Remove all of this?", err=True):
            click.echo("nothing was removed", err=True)
            return 1
        _remove(traces)
    finally:
        lock.release()
    _remove_directories(traces, directory, socket)
    return 0


def _tell(traces: Traces, *, dry_run: bool) -> None:
    if wants_json():
        kept = [str(path) for path in traces.left]
        emit(msgspec.json.encode({"dry_run": dry_run, "remove": list(traces.lines()), "keep": kept}))
        return
    for line in traces.lines():
        click.echo(f"{'would remove' if dry_run else 'remove'} {line}")


def _acquire(lock: StateLock, *, force: bool, dry_run: bool) -> None:
    """Hold the state directory; an agent that has it is stopped with `force`, and named without."""
    from vxlanu.store import HANDOVER_S

    try:
        lock.acquire(HANDOVER_S)
        return
    except Refused as refusal:
        pid = refusal.detail.get("pid", "")
        if refusal.name != "state_dir_in_use" or not pid.isdigit():
            raise
        if not force or dry_run:
            why = f"an agent runs on {lock.directory} (pid {pid})"
            hint = "vxlanu member leave, or systemctl stop vxlanu; or --force"
            raise Conflict("reset", why, hint=hint, name="agent_running", detail=refusal.detail) from None
    click.echo(f"stop the agent, pid {pid}", err=wants_json())
    try:
        os.kill(int(pid), signal.SIGTERM)
    except ProcessLookupError:
        pass  # it ended by itself
    except PermissionError as error:
        raise Refused("reset", f"pid {pid} is another user's", hint="sudo vxlanu reset", name="need_root") from error
    lock.acquire(STOP_S)


def _find(directory: Path, socket: Path) -> Traces:
    """Read the journal; a file that cannot be read names no interfaces, and goes all the same."""
    present = [directory / name for name in STATE_FILES if (directory / name).exists()]
    taps: dict[str, LocalRow] = {}
    bridge = ""
    if (directory / STATE_FILES[0]).exists():
        taps, bridge = _journal(directory)
    left = [path for path in sorted(directory.iterdir()) if path.name not in STATE_FILES]
    sockets = [socket] if socket.is_socket() else []
    return Traces(taps, bridge, [*sockets, *present], left, _names(directory))


def _names(directory: Path) -> list[Path]:
    """What this agent wrote below /etc/netns; without its key nobody can tell."""
    from vxlanu.control.core.errors import LocalError
    from vxlanu.control.core.records import short
    from vxlanu.control.identity import load_or_create, node_id
    from vxlanu.dns.netns_file import NetnsFiles

    try:
        key = directory / "node.key"
        return NetnsFiles(short(node_id(load_or_create(key)))).found() if key.exists() else []
    except (LocalError, OSError):
        return []


def _journal(directory: Path) -> tuple[dict[str, LocalRow], str]:
    """Interfaces in containers, and the bridge."""
    from vxlanu.agent.journal import EndpointJournal
    from vxlanu.control.identity import load_or_create, node_id
    from vxlanu.gateway.ground import bridge_mac
    from vxlanu.gateway.ledger import Ledger
    from vxlanu.store import Store

    try:
        store = Store(directory)
    except Refused as refusal:
        click.echo(f"{refusal.what}: {refusal.why}: interfaces that it may name stay", err=True)
        return {}, ""
    try:
        rows, ledger = EndpointJournal(store).rows, Ledger(store)
        known = ledger.rows and (directory / "node.key").exists()
        return rows, bridge_mac(node_id(load_or_create(directory / "node.key"))) if known else ""
    finally:
        store.close()


def _remove(traces: Traces) -> None:
    """Interfaces first: with the journal gone nobody would find them."""
    if traces.taps or traces.bridge:
        from vxlanu.nsopen import NamespaceHelper

        helper = NamespaceHelper.start()
        try:
            asyncio.run(_remove_taps(helper, traces.taps))
            if traces.bridge:
                asyncio.run(_remove_bridge(helper, traces.bridge))
        finally:
            helper.close()
    for path in (*traces.names, *traces.files):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    for path in traces.names:
        with contextlib.suppress(OSError):  # something else is in it
            path.parent.rmdir()
            path.parent.parent.rmdir()


async def _remove_taps(helper: NamespaceHelper, taps: dict[str, LocalRow]) -> None:
    """A target that has ended took its interface along; any other failure ends the reset, which can be tried again."""
    from vxlanu.endpoints import TAG_DIGITS
    from vxlanu.nsopen import NamespaceMissing

    for key, row in taps.items():
        with contextlib.suppress(NamespaceMissing), row.target().open() as namespace:
            await helper.delete_tap(namespace, key[:TAG_DIGITS])


async def _remove_bridge(helper: NamespaceHelper, mac: str) -> None:
    """With its veths; the rules too, where nft is there to ask, and those beside Docker's."""
    from vxlanu.gateway.docker_user import DockerUser
    from vxlanu.gateway.nft import Nft
    from vxlanu.gateway.rules import BRIDGE
    from vxlanu.nsopen import EgressGround

    await helper.egress_ground(EgressGround(BRIDGE, mac, ""))
    await DockerUser().remove()
    nft = Nft()
    if nft.path:
        await nft.remove()


def _remove_directories(traces: Traces, directory: Path, socket: Path) -> None:
    """Those that are empty now; what else lies there is somebody else's, and said."""
    for path in traces.left:
        click.echo(f"kept, not made by an agent: {path}", err=True)
    for place in (directory, socket.parent):
        if place.name == "vxlanu" or place == directory:
            with contextlib.suppress(OSError):
                place.rmdir()
