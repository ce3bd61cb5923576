"""What is timed, how often, and what comes of it.

How it works
  For each size of the tables: all frames carried there and decapsulated again, and decided about as they are; for one
  size of the tables each class of frame sizes by itself; and super-frames, if there are any, cut and merged. Before
  anything is timed every frame was carried and compared (bench_load.c). A repeat times each operation once, so that
  what disturbs the machine disturbs them alike; one repeat goes before and is forgotten. The memcpy of the same frames
  is an operation among the others; a decision is timed from behind it, its frames where a read would have left them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from vxlanu.bench.frames import by_size
from vxlanu.dataplane.bench import Bench, Census, Kind, Operation, Tables

__all__ = ["PLACES_MAX", "Result", "Settings", "measure", "percentile"]

PLACES_MAX = 1000  # ports and VTEPs, where the table has that many entries
WANTED = {Kind.CARRY: 65536, Kind.MIX: 65536, Kind.SUPER: 16}  # 16: what one recvmmsg() brings at most
SAMPLE_NS = 20_000_000  # passes are added until a sample takes about so long
PASSES_MAX = 4096

OPERATIONS = {
    Kind.CARRY: (Operation.COPY, Operation.ENCAPSULATE, Operation.DECAPSULATE),
    Kind.MIX: (Operation.COPY, Operation.DECIDE),
    Kind.SUPER: (Operation.COPY, Operation.CUT, Operation.COALESCE),
}

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for. Ports and VTEPs are as many as entries, up to PLACES_MAX, unless they are given."""

    entries: tuple[int, ...] = (1, 1000, 100_000, 1_000_000)
    ports: int = 0
    vteps: int = 0
    mtu: int = 1450
    repeats: int = 11
    seed: int = 1

    def tables(self, entries: int) -> Tables:
        places = min(entries, PLACES_MAX)
        return Tables(entries, self.ports or places, self.vteps or places, self.mtu, self.seed)

    @property
    def classes_at(self) -> int:
        """The size of the tables at which the classes of frames are timed: 1 000, or what is there."""
        return 1000 if 1000 in self.entries else min(self.entries)


@dataclass(frozen=True, slots=True)
class Result:
    """One operation over one set of frames."""

    operation: str
    size: str
    tables: Tables
    census: Census
    passes: int
    samples_ns: tuple[int, ...]
    """Per pass, in the order in which they were taken."""
    copy_ns: tuple[int, ...] = field(default=())
    """The memcpy of the same frames, likewise."""

    def per_frame(self, share: float) -> float:
        """Nanoseconds for a frame of the wire; 0.5 is the median."""
        return percentile(self.samples_ns, share) / self.census.segments

    def copied(self) -> float:
        return percentile(self.copy_ns, 0.5) / self.census.segments

    def gbit_s(self) -> float:
        """Of Ethernet frames, of the median."""
        return self.census.octets * 8 / percentile(self.samples_ns, 0.5)

    def as_json(self) -> dict[str, object]:
        """Without figures where no frame could be carried: `frames` says why."""
        about: dict[str, object] = {
            "operation": self.operation,
            "size": self.size,
            "tables": asdict(self.tables),
            "frames": asdict(self.census),
            "passes": self.passes,
            "samples_ns": list(self.samples_ns),
            "copy_samples_ns": list(self.copy_ns),
        }
        return about | self._figures() if self.samples_ns else about

    def _figures(self) -> dict[str, object]:
        return {
            "ns_per_frame": {
                name: round(self.per_frame(share), 3)
                for name, share in (("median", 0.5), ("p5", 0.05), ("p95", 0.95), ("min", 0.0))
            },
            "copy_ns_per_frame": round(self.copied(), 3),
            "frames_per_s": round(1e9 / self.per_frame(0.5)),
            "gbit_s": round(self.gbit_s(), 3),
        }


def percentile(samples: Sequence[int], share: float) -> float:
    """Between the two nearest, by their distance."""
    ordered = sorted(samples)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


@dataclass(frozen=True, slots=True)
class _Step:
    entries: int
    kind: Kind
    size: str
    frames: Sequence[bytes]


def _plan(frames: Sequence[bytes], settings: Settings) -> Iterator[_Step]:
    classes = by_size(frames)
    for entries in settings.entries:
        yield _Step(entries, Kind.CARRY, "all", frames)
        if entries == settings.classes_at:
            if len(classes) > 1:
                yield from (_Step(entries, Kind.CARRY, size, members) for size, members in classes.items())
            yield _Step(entries, Kind.SUPER, "super-frames", [frame for frame in frames if len(frame) > settings.mtu])
        yield _Step(entries, Kind.MIX, "as captured", frames)


def measure(frames: Sequence[bytes], settings: Settings, progress: Progress) -> list[Result]:
    """Everything, in order; `progress` is told (steps done, steps, what comes next).

    Raises:
        Differs: a frame was not carried as it is.
        OSError: tables that the fast path cannot have (EINVAL), no memory.
    """
    steps = [step for step in _plan(frames, settings) if step.frames]
    results: list[Result] = []
    at = 0
    for entries in settings.entries:
        progress(at, len(steps), f"{entries} entries: filling the tables")
        with Bench(settings.tables(entries)) as bench:
            for step in (step for step in steps if step.entries == entries):
                progress(at, len(steps), f"{entries} entries: {step.size}")
                results += _time(bench, step, settings)
                at += 1
    return results


def _time(bench: Bench, step: _Step, settings: Settings) -> list[Result]:
    """All operations of a step; nothing if no frame of it can be carried."""
    census = bench.load(step.kind, step.frames, WANTED[step.kind])
    tables = settings.tables(step.entries)
    operations = OPERATIONS[step.kind]
    if not census.frames:
        return [Result(it.name.lower(), step.size, tables, census, 0, ()) for it in operations[1:]]
    passes = {it: _passes(bench, it) for it in operations}
    samples: dict[Operation, list[int]] = {it: [] for it in operations}
    for repeat in range(settings.repeats + 1):
        for it in operations:
            took = bench.run(it, passes[it]) // passes[it]
            if repeat:
                samples[it].append(took)
    copied = tuple(samples[Operation.COPY])
    return [
        Result(it.name.lower(), step.size, tables, census, passes[it], tuple(samples[it]), copied)
        for it in operations[1:]
    ]


def _passes(bench: Bench, operation: Operation) -> int:
    """How many make a sample that the clock and a tick of the kernel do not decide."""
    once = max(1, min(bench.run(operation), bench.run(operation)))
    return max(1, min(PASSES_MAX, SAMPLE_NS // once))
