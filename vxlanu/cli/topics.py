"""`vxlanu help TOPIC`: what is not about one command.

Rules of this file
  1. What the program knows by itself is drawn from there (settings, events, exit codes, drop reasons), so that it
     cannot be wrong; only prose stands in share/help.
  2. Every drop reason has its advice here: a test holds this list to the reasons of the fast path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click
from click.shell_completion import CompletionItem

from vxlanu.cli.command import Command
from vxlanu.errors import CLASSES, NotFound, near
from vxlanu.event_names import EVENTS
from vxlanu.share import shipped

__all__ = ["ADVICE", "TOPICS", "topics"]

TOPICS = {
    "capture": "What a capture has in it, for people and for Wireshark",
    "concepts": "What the words mean: member, network, endpoint, target, VTEP",
    "config": "Every setting of the agent, with its default",
    "docker": "Overlay networks under docker run",
    "drops": "Why a frame was not delivered, and what to do about it",
    "egress": "How a container reaches the outside, and is reached from there",
    "events": "The stable event names of the log",
    "exit-codes": "What the exit status of a command says",
    "kv": "The records as keys and values, here and over HTTP",
    "names": "How containers find each other by name, and the rest of the world",
    "networks": "What a network has, and what makes two of one name",
    "offload": "What the kernel does for the fast path",
    "service": "The agent under systemd, or another supervisor",
    "targets": "What can be attached, and how it is named",
    "troubleshooting": "From \"it does not ping\" to the cause",
}

ADVICE = {
    "vxlan_invalid_hdr": "something else sends to the data port: see who, with tshark -f 'udp port 4789'",
    "vxlan_vni_not_found": "normal for a moment after a detach; else the sender has a static VTEP too many",
    "hdr_trunc": "the sender or a middlebox is broken; look at one: vxlanu capture --reason hdr_trunc -w FILE",
    "vtep_unknown": "vxlanu member ls here: is the sender a member? A foreign VTEP needs vxlanu vtep add",
    "vtep_mac": "two containers with one MAC, or a spoofing host: vxlanu fdb show",
    "mac_invalid_source": "the container sends broken frames; look inside it",
    "local_mac": "a loop: something bridges the network back into itself, or two containers have one MAC",
    "mac_pending": "the sender's records do not reach this host: is port 7946 open both ways?",
    "src_mac_spoof": "a bridge or VM inside the container? vxlanu attach --allow-spoof",
    "src_ip_spoof": "an address that attach did not give: vxlanu attach --allow-address CIDR, or --allow-spoof",
    "arp_spoof": "a floating address needs vxlanu attach --allow-address CIDR",
    "rogue_server": "a DHCP server or router runs in the container; overlay networks need neither",
    "fdb_miss": "the destination has gone, or its record is on its way: vxlanu endpoint ls",
    "neigh_miss": "nobody has the address that is asked for: vxlanu neighbor show NETWORK",
    "no_tx_target": "normal: broadcast in a network with nobody else in it",
    "split_horizon": "normal: what came by tunnel does not leave by tunnel",
    "storm_limit": "an endpoint broadcasts too much; look which one: vxlanu drops",
    "vlan": "vxlanu network create --vlan pass makes a network that carries tags",
    "ip_tunnel_ecn": "a router on the way marks packets that must not be marked (RFC 6040)",
    "pkt_too_big": "an MTU on the way is too small: network MTU plus 50 (70 over IPv6) must fit the underlay",
    "csum": "a sender's offload is broken: try vxlanu agent --offload off there",
    "gso_invalid": "a guest's driver writes wrong offload headers; try --offload no-vnet-hdr",
    "ring_full": "more came than one CPU forwards: fewer senders, or more workers (--workers)",
    "tap_down": "the container's interface is down: ip link set eth0 up, in it",
    "rx_overflow": "sysctl -w net.core.rmem_max=16777216, or give the agent CAP_NET_ADMIN",
    "sock_full": "the underlay's link is full",
    "sock_error": "see the event socket_error in the log for the error",
    "unreachable": "no route to the other host: ip route get ADDRESS",
    "network_conflict": "two networks have one VNI: vxlanu network ls, then remove one",
    "shutdown": "normal: frames in hand when an endpoint or the agent was stopped",
}


def _config() -> Iterator[str]:
    yield shipped("agent.toml").rstrip("\n")


def _drops() -> Iterator[str]:
    from vxlanu.dataplane.reading import REASON_TEXTS

    yield "Every frame that is not delivered is counted under one reason: `vxlanu drops`."
    for name, sentence in REASON_TEXTS.items():
        if name not in ADVICE:
            continue  # `ok`
        yield f"\n{name}\n    {sentence}"
        yield f"    → {ADVICE[name]}"


def _events() -> Iterator[str]:
    yield "`vxlanu agent --log-format json` writes one object per line: time, level, event, message.\n"
    width = max(map(len, EVENTS))
    for name, sentence in EVENTS.items():
        yield f"{name:<{width}}  {sentence}"


def _exit_codes() -> Iterator[str]:
    yield "  0  ok"
    for kind in CLASSES:
        sentence = (kind.__doc__ or "").splitlines()[0].rstrip(".")
        yield f"{kind.exit:>3}  {kind.default_name}: {sentence[:1].lower()}{sentence[1:]}"
    yield "130  interrupted (Ctrl-C)\n141  the reader of our output went away"
    yield "\nOn stderr stands `vxlanu: what: why; try: …`; with --json also the error, with a stable name, on stdout."


COMPUTED: dict[str, Callable[[], Iterator[str]]] = {
    "config": _config,
    "drops": _drops,
    "events": _events,
    "exit-codes": _exit_codes,
}


def _complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    return [CompletionItem(name, help=about) for name, about in TOPICS.items() if name.startswith(typed)]


@click.command("help", cls=Command, examples=["vxlanu help", "vxlanu help troubleshooting", "vxlanu help drops | less"])
@click.argument("topic", required=False, metavar="[TOPIC|COMMAND]", shell_complete=_complete)
@click.pass_context
def topics(context: click.Context, topic: str | None) -> None:
    """Explain a topic, or a command as its --help does; list the topics without one."""
    root = context.find_root()
    commands = root.command
    assert isinstance(commands, click.Group)
    if topic is None:
        width = max(map(len, TOPICS))
        for name, about in TOPICS.items():
            click.echo(f"{name:<{width}}  {about}")
        return
    if topic not in TOPICS:
        command = commands.get_command(root, topic)
        if command is not None:
            with click.Context(command, info_name=topic, parent=root) as inner:
                click.echo(command.get_help(inner))
            return
        hint = near(topic, [*TOPICS, *commands.list_commands(root)]) or f"one of {', '.join(TOPICS)}, or a command"
        raise NotFound(f"help {topic}", "no such topic", hint=hint, name="topic_not_found")
    draw = COMPUTED.get(topic)
    click.echo("\n".join(draw()) if draw else shipped(f"help/{topic}.txt").rstrip("\n"))
