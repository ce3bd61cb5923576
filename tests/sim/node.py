"""One real control plane as a process: sockets, uvloop, a SQLite journal. Driven by JSON lines, for the netns tests.

python node.py DIRECTORY NAME ADDRESS SEED      stdin: {"do": ...}    stdout: one answer per line
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import uvloop

from vxlanu.control.core.config import LOCAL, Config
from vxlanu.control.core.effects import Erase, Persist
from vxlanu.control.core.errors import Refusal
from vxlanu.control.core.records import Endpoint, EndpointId, Network, NetworkId
from vxlanu.control.identity import load_or_create, node_id
from vxlanu.control.net import ControlPlane

PATIENT = replace(LOCAL, suspicion_mult=60)  # a node that a busy machine holds up for seconds is not dead
JOINED_S = 60.0


class Sqlite:
    """The journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connect().execute("CREATE TABLE IF NOT EXISTS rows (t, k, v, PRIMARY KEY (t, k))")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path)
        connection.execute("PRAGMA journal_mode=WAL")
        return connection

    def rows(self) -> list[tuple[str, bytes, bytes]]:
        """Everything."""
        return list(self._connect().execute("SELECT t, k, v FROM rows"))

    async def commit(self, changes: Sequence[Persist | Erase], durable: bool) -> None:
        """In a thread: the loop goes on."""
        await asyncio.to_thread(self._commit, list(changes), durable)

    def _commit(self, changes: list[Persist | Erase], durable: bool) -> None:
        connection = self._connect()
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        with connection:
            for change in changes:
                if isinstance(change, Persist):
                    row = (change.table, change.key, change.value)
                    connection.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", row)
                else:
                    connection.execute("DELETE FROM rows WHERE t = ? AND k = ?", (change.table, change.key))
        connection.close()


async def obey(plane: ControlPlane, order: dict[str, str]) -> object:
    """Do one thing."""
    view = plane.core.view
    match order["do"]:
        case "create":
            body = Network(id=bytes.fromhex(order["id"]), name=order["name"], vni=256, subnets=("192.168.0.0/24",))
            done = await plane.create_network(body)
            return [done.acked, done.wanted]
        case "attach":
            network, endpoint = NetworkId(bytes.fromhex(order["network"])), EndpointId(bytes.fromhex(order["id"]))
            address = await plane.allocate(network, endpoint, wanted=order.get("wanted"))
            mac = ":".join(f"{octet:02x}" for octet in (2, 0x42, *ip_interface(address).ip.packed))
            body2 = Endpoint(id=endpoint, network=network, name=order["name"], mac=mac, addresses=(address,))
            done = await plane.put_endpoint(body2)
            return [address, done.acked, done.wanted]
        case "detach":
            await plane.delete_endpoint(EndpointId(bytes.fromhex(order["id"])))
            return "ok"
        case "see":
            networks = [view.id.hex() for view in view.networks()]
            members = sorted([member.name, member.state] for member in view.members())
            endpoints = sorted([e.body.name, e.owner_name, *e.body.addresses] for e in view.endpoints())
            return {"networks": networks, "members": members, "endpoints": endpoints, "cpu": time.process_time()}
    return None


async def main(directory: str, name: str, address: str, seed: str) -> None:
    """Start, obey, stop at the end of input."""
    state = Path(directory)
    journal = Sqlite(state / "rows.sqlite")
    identity = node_id(load_or_create(state / "identity.pem"))
    config = Config(node=identity, name=name, control_host=address, seeds=(seed,), profile=PATIENT)
    plane = ControlPlane(config, journal.rows(), journal)
    try:
        await plane.start()
        await plane.first_join(JOINED_S)
    except (OSError, Refusal) as error:
        print(json.dumps({"failed": str(error)}), flush=True)
        return
    print(json.dumps("ready"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            answer = await obey(plane, json.loads(line))
        except Refusal as refusal:
            answer = {"refused": refusal.name, "holder": refusal.holder}
        print(json.dumps(answer), flush=True)
    await plane.stop(leave=False)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
