"""All facts for one run: from the agent if there is one, and from this host.

Rules of this file
  1. An agent that is away, or too old for a question, is a fact; only a wrong command line is an error.
"""

from __future__ import annotations

import os
from dataclasses import replace

from vxlanu.api.client import Client
from vxlanu.api.schema import Netcheck, Network, Status
from vxlanu.config import DOCKER_SOCKET, AgentConfig
from vxlanu.doctor import read
from vxlanu.doctor.facts import Facts, Settings
from vxlanu.doctor.workers import workers
from vxlanu.errors import BadRequest, NotFound, VxlanuError

__all__ = ["gather"]


def gather(client: Client, member: str = "", *, host: bool) -> Facts:
    """`host`: also what host.py needs. `member`: ask only this one.

    Raises:
        NotFound, BadRequest: there is no such member.
    """
    status, agent_error = _status(client)
    config, config_error = read.settings_without_agent(os.environ)
    facts = read.read_network(_settings(status, config))
    found, netcheck_error = _netcheck(client, member) if status else (None, "")
    facts = replace(
        facts, status=status, agent_error=agent_error, netcheck=found, netcheck_error=netcheck_error,
        config_error="" if status else config_error,
    )  # fmt: skip
    if not host:
        return facts
    facts = replace(facts, networks=_networks(client) if status else ())
    agent = read.agent_process(client.path) if status else None
    own = read.read_host(agent, try_taps=status is None)
    return replace(
        facts,
        host=own.host,
        tun=own.tun,
        workers=workers(agent),
        clock=own.clock,
        plugin=read.plugin_socket(config.docker or DOCKER_SOCKET, agent),
        key=read.file(config.key_file) if config.key_file else None,
        state_dir=read.file(status.state_dir if status else config.state_dir),
    )


def _status(client: Client) -> tuple[Status | None, str]:
    try:
        return client.status().value, ""
    except VxlanuError as error:
        return None, f"{error.what}: {error.why}"


def _networks(client: Client) -> tuple[Network, ...]:
    try:
        return tuple(client.networks().value.items)
    except VxlanuError:
        return ()


def _netcheck(client: Client, member: str) -> tuple[Netcheck | None, str]:
    try:
        return client.netcheck(member).value, ""
    except VxlanuError as error:
        if member and isinstance(error, NotFound | BadRequest) and error.name != "no_route":
            raise
        return None, f"{error.what}: {error.why}"


def _settings(status: Status | None, config: AgentConfig) -> Settings:
    address, ifname, mtu = read.place_of(status.advertise if status else config.advertise)
    return Settings(
        data_port=status.data_port if status else config.data_port,
        control_port=status.control_port if status else config.control_port,
        state_dir=status.state_dir if status else config.state_dir,
        key_file=config.key_file,
        address=address,
        ifname=ifname,
        link_mtu=mtu,
    )
