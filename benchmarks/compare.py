"""A comparison: the scene is set up, the peers come up on it, the rounds are measured; a Run is what comes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.machine import commit, machine, offloads, tools
from benchmarks.meters import Meter
from benchmarks.peers import PEERS
from benchmarks.results import MeterInfo, PeerInfo, Run, Settings
from benchmarks.rounds import Progress, Rounds, with_again
from benchmarks.scene import HOSTS, Path, Scene
from vxlanu.errors import VxlanuError
from vxlanu.lab.topology import Lab

__all__ = ["Comparison", "measure"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is asked for."""

    peers: Sequence[str]
    meters: Sequence[Meter]
    settings: Settings
    again: bool = True
    """vxlanu a second time, as the noise floor."""


def measure(asked: Comparison, progress: Progress, keep: Callable[[Run], None]) -> Run:
    """Measure, and hand what there is to `keep`, whatever ends it.

    Raises:
        VxlanuError: the lab cannot be made here, or vxlanu does not come up in it.
    """
    settings = asked.settings
    began = datetime.now(UTC).isoformat(timespec="seconds")
    progress("setting up the lab")
    scene_up = Scene.up(settings.underlay, family=settings.family, mtu=settings.mtu, agent_flags=settings.agent_flags)
    with scene_up as scene, ExitStack() as stack:
        peers, paths = _bring_up(asked.peers, scene, stack, progress)
        rounds = Rounds(with_again(paths) if asked.again else paths, asked.meters, settings.rounds, progress)
        run = _empty(asked, scene, peers, began)
        try:
            run.complete = rounds.run()
            still = _in_use(scene.lab)  # without what the kernel has refused meanwhile
            run.in_use = ",".join(name for name in run.in_use.split(",") if name in still)
        finally:
            run.series = list(rounds.series.values())
            keep(run)
    return run


def _bring_up(
    names: Iterable[str], scene: Scene, stack: ExitStack, progress: Progress
) -> tuple[list[PeerInfo], Mapping[str, Path]]:
    """All that can be: a peer that is not installed, or does not come up, is missing by name.

    Without vxlanu there is nothing to compare. Raises VxlanuError.
    """
    infos: list[PeerInfo] = []
    paths: dict[str, Path] = {}
    for name in names:
        progress(f"bringing up {name}")
        peer = PEERS[name]
        try:
            version = peer.version()
            with ExitStack() as own:
                path = peer.bring_up(scene, own)
                path.ready()
                stack.enter_context(own.pop_all())
        except FileNotFoundError as error:
            infos.append(PeerInfo(name, peer.TITLE, missing=str(error)))
        except (VxlanuError, OSError, subprocess.SubprocessError) as error:
            infos.append(PeerInfo(name, peer.TITLE, missing=f"did not come up: {error}"))
            if isinstance(error, VxlanuError) and error.detail:
                progress("\n".join(error.detail.values()) + "\n")
        else:
            infos.append(PeerInfo(name, peer.TITLE, version, mtu=path.mtu()))
            paths[name] = path
        if (missing := infos[-1].missing) and name == "vxlanu":
            raise VxlanuError(name, missing)
        if missing:
            progress(f"{name}: {missing}\n")
    return infos, paths


def _in_use(lab: Lab) -> list[str]:
    """What both agents use now."""
    each = []
    for host in HOSTS:
        status = lab.vxlanu(host, "status")
        assert isinstance(status, dict)
        each.append(str(status["offload"]).split(","))
    first, *others = each
    return [name for name in first if all(name in used for used in others)]


def _empty(asked: Comparison, scene: Scene, peers: list[PeerInfo], began: str) -> Run:
    version, clone = commit()
    return Run(
        date=began,
        version=version,
        commit=clone,
        machine=machine(),
        offloads=offloads(scene.lab, HOSTS[0]),
        in_use=",".join(_in_use(scene.lab)),
        tools=tools(),
        settings=asked.settings,
        peers=peers,
        meters=[MeterInfo(it.name, it.title, it.unit, it.higher_is_better) for it in asked.meters],
        series=[],
        complete=False,
    )
