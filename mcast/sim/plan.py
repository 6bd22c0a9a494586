"""A run's configuration, drawn from its seed: the cluster, the weather, the clients and the faults.

Drawn as a swarm: each run has some kinds of trouble switched off altogether, because trouble of one kind often hides
what another would show. Partitions mostly outlast an election: shorter ones rarely decide anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from mcast.limits import CACHE_BYTES_MAX, DEEP_GAP_FRAMES, HEARTBEAT_HISTORY, LEDGER_RANGES_MAX, REORDER_FRAMES_MAX
from mcast.sim.client import Habits
from mcast.sim.network import Weather
from mcast.sim.node import DiskSpeed

CALM_START_S: Final = 0.3  # so that most runs found their cluster before trouble begins
LOSS_WITHOUT_ROOM_MAX: Final = 0.2  # share of datagrams lost, where little is kept beyond a gap
LOSS_WITHOUT_SPARE_MAX: Final = 0.1
DEAF_SHARE: Final = 0.2  # of the runs in which some nodes are deaf
RECORD_BYTES_MIN: Final = 160
KINDS: Final = (
    "crash", "torn-call", "bad-sync", "wipe", "rot", "slow-disk", "pause", "storm",
    "partition", "one-way", "isolate", "deaf", "mute", "handover", "blackout",
)  # fmt: skip
DISK_KINDS: Final = ("lost-tail", "cut-start", "bad-call", "short-write", "full-disk")
"""Faults of disks that are drawn beside the others, in half of the runs."""
DEAFNESS: Final = ("multicast", "hearing", "speaking", "datagrams")
"""What a node may lack during a whole run: multicast; all datagrams to it, from it, or both. TCP works."""
SEALED_SHARE: Final = 0.3  # of runs
FORGED_SHARE: Final = 0.15  # of runs in which somebody forges promises
DISK_LOSSES: Final = frozenset({"wipe", "rot", "lost-tail"})


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """Something that goes wrong at `at` for `for_s` seconds. `nodes` are indices; empty: whoever is sequencer then."""

    at: float
    for_s: float
    kind: str
    nodes: tuple[int, ...]
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about one run that is decided before it begins."""

    seed: int
    members: int
    observers: int
    sync: str
    sealed: bool
    """Whether datagrams are sealed by a key; nobody forges any then."""
    handler_s: float
    """How long a command's handler takes, in seconds of its node's time."""
    frame_body_max: int
    cache_bytes: int
    """Of recent frames in a node's memory; little, so that some must be read from its journal."""
    deep_gap_frames: int
    """Behind which a node catches up over TCP; few, so that it happens."""
    reorder_frames_max: int
    """Kept beyond a gap; few, so that a node that slept finds no room for some."""
    ledger_ranges_max: int
    """Few, so that the ledger has to forget some of what it would remember."""
    heartbeat_epochs: int
    """How many of the newest epochs a heartbeat tells; few, so that older ones must be fetched."""
    heartbeat_max_s: float
    election_timeout_s: tuple[float, float]
    weather: Weather
    disk: DiskSpeed
    clients: int
    habits: Habits
    read_pause_s: float
    faults: tuple[PlannedFault, ...]
    deaf: tuple[tuple[int, str], ...]
    """Nodes and their DEAFNESS, from `deaf_at` on: it never heals, and the cluster must become whole in spite of it."""
    deaf_at: float
    trouble_s: float
    """Faults may begin until then; afterwards a majority is healed, and then all."""

    @property
    def reconciles(self) -> bool:
        """Whether nothing but datagram faults happens, so that what was injected must be what was found."""
        doubles = self.weather.duplicate or self.weather.late
        return not self.faults and not doubles and self.ledger_ranges_max == LEDGER_RANGES_MAX


def draw_plan(seed: int) -> Plan:
    """The plan of a seed; the same in every process."""
    random, bounds, far = (Random(f"{seed}:{what}") for what in ("plan", "bounds", "far"))
    members = random.choice((1, 3, 3, 3, 3, 3, 3, 4, 5, 5))
    observers = random.choice((0, 0, 0, 1)) if members < 5 else 0
    heartbeat_s = random.choice((0.02, 0.03))
    election_s = 6 * heartbeat_s + random.random() * 0.05
    sync = random.choice(("always", "always", "os"))
    trouble_s = CALM_START_S + 0.5 + random.random() * random.choice((1.5, 3.0))
    frame_body_max = random.choice((300, 500, 1_300, 1_300, 8_000))
    faults = _faults(random, members, observers, trouble_s, election_s)
    sealed = Random(f"{seed}:seal").random() < SEALED_SHARE
    if members > 1 and far.random() < FORGED_SHARE and not sealed:
        faults = (*faults, *_forgeries(far, members + observers, trouble_s))
    disks = Random(f"{seed}:disks")
    faults += _disk_faults(disks, members + observers, trouble_s, election_s)
    weather = _weather(random, far)
    if any(fault.kind in DISK_LOSSES for fault in faults):
        # Without a voter to spare every answer counts, and heavy loss can keep an election going past any bound.
        weather = replace(weather, loss=min(weather.loss, LOSS_WITHOUT_SPARE_MAX))
    reorder_frames_max = bounds.choice((12, 50, REORDER_FRAMES_MAX))
    if weather.loss + weather.shared_loss > LOSS_WITHOUT_ROOM_MAX:
        # With less room than the window, which the real bounds rule out, what has just been repaired is often refused.
        reorder_frames_max = REORDER_FRAMES_MAX
    return Plan(
        seed=seed,
        members=members,
        observers=observers,
        sync=sync,
        sealed=sealed,
        handler_s=Random(f"{seed}:handlers").choice((0.0, 0.0, 0.000_2, 0.002)),
        frame_body_max=frame_body_max,
        cache_bytes=random.choice((2_000, 20_000, CACHE_BYTES_MAX)),
        deep_gap_frames=random.choice((4, 30, DEEP_GAP_FRAMES)),
        reorder_frames_max=reorder_frames_max,
        ledger_ranges_max=bounds.choice((1, 8, LEDGER_RANGES_MAX, LEDGER_RANGES_MAX)),
        heartbeat_epochs=bounds.choice((1, 2, HEARTBEAT_HISTORY)),
        heartbeat_max_s=heartbeat_s,
        election_timeout_s=(election_s, 2 * election_s),
        weather=weather,
        disk=_disk(random),
        clients=random.choice((1, 1, 2, 3)),
        habits=_habits(random, frame_body_max),
        read_pause_s=random.choice((0.02, 0.05, 0.15)),
        faults=faults,
        deaf=_deaf(Random(f"{seed}:deaf"), members + observers),
        deaf_at=Random(f"{seed}:deaf_at").random() * trouble_s,
        trouble_s=trouble_s,
    )


def _forgeries(random: Random, nodes: int, trouble_s: float) -> tuple[PlannedFault, ...]:
    """Promises that nobody gave, far and near, to one node or to several."""
    return tuple(
        PlannedFault(
            CALM_START_S + random.random() * (trouble_s - CALM_START_S),
            0.0,
            "forged",
            tuple(node for node in range(nodes) if random.random() < 0.5) or (0,),
            random.random(),
        )
        for _ in range(random.choice((1, 1, 5, 30)))
    )


def _deaf(random: Random, nodes: int) -> tuple[tuple[int, str], ...]:
    if random.random() > DEAF_SHARE:
        return ()
    share = random.choice((0.2, 0.5, 1.0))
    kinds = random.choice((DEAFNESS[:1], DEAFNESS))
    return tuple((node, random.choice(kinds)) for node in range(nodes) if random.random() < share)


def _weather(random: Random, far: Random) -> Weather:
    def maybe(chance: float, *values: float, random: Random = random) -> float:
        return random.choice(values) if random.random() < chance else 0.0

    delay_s = random.choice((0.000_1, 0.000_5, 0.002))
    return Weather(
        loss=maybe(0.7, 0.01, 0.05, 0.1, 0.3),
        shared_loss=maybe(0.3, 0.02, 0.1),
        duplicate=maybe(0.3, 0.02, 0.1),
        reorder=maybe(0.3, 0.02, 0.2),
        corrupt=maybe(0.2, 0.01, 0.05),
        delay_s=delay_s,
        jitter_s=delay_s * random.choice((0.1, 1.0)),
        late=maybe(0.3, 0.002, 0.02, random=far),
        misdirect=maybe(0.5, 0.05, 0.5, random=far),
    )


def _disk(random: Random) -> DiskSpeed:
    least_s = random.choice((0.000_1, 0.000_5, 0.002))
    return DiskSpeed(least_s, least_s * random.choice((2, 10)))


def _habits(random: Random, frame_body_max: int) -> Habits:
    return Habits(
        commands_max=random.choice((30, 60, 120, 240)),
        pause_s=random.choice((0.01, 0.03, 0.08)),
        burst_max=random.choice((1, 3, 8)),
        record_commands_max=random.choice((1, 4)),
        filler_bytes_max=random.choice((10, 60)),
        large_share=random.choice((0.0, 0.0, 0.1, 0.3)),
        record_bytes_max=min(frame_body_max, random.choice((RECORD_BYTES_MIN, 400))),
        resend_s=random.choice((0.15, 0.3)),
        moves_share=random.choice((0.0, 0.0, 0.05)),
    )


def _faults(
    random: Random, members: int, observers: int, trouble_s: float, election_s: float
) -> tuple[PlannedFault, ...]:
    count = random.choice((0, 1, 2, 4, 6, 10))
    kinds = [kind for kind in KINDS if random.random() < 0.5] or ["crash"]
    nodes, blackouts_left = members + observers, 1
    faults = []
    for _ in range(count):
        kind = random.choice(kinds)
        calm_s = 0.0 if random.random() < 0.1 else CALM_START_S
        at = calm_s + random.random() * (trouble_s - calm_s)
        for_s = election_s * (random.random() if random.random() < 0.3 else 2 + 4 * random.random())
        if kind == "blackout":
            kind = kind if blackouts_left else "crash"
            blackouts_left = 0
        some = tuple(sorted(random.sample(range(nodes), random.randint(1, max(1, nodes // 2)))))
        target = () if random.random() < 0.5 else some
        if kind in {*DISK_LOSSES, "pause", "slow-disk", "isolate"} and target:
            target = some[:1]
        faults.append(PlannedFault(at, for_s, kind, target, random.choice((0.3, 0.5, 0.9))))
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _disk_faults(random: Random, nodes: int, trouble_s: float, election_s: float) -> tuple[PlannedFault, ...]:
    kinds = [kind for kind in DISK_KINDS if random.random() < 0.6]
    if random.random() < 0.5 or not kinds:
        return ()
    faults = []
    for _ in range(random.choice((1, 1, 2, 4))):
        at = CALM_START_S + random.random() * (trouble_s - CALM_START_S)
        target = () if random.random() < 0.3 else (int(random.random() * nodes),)
        for_s = election_s * (0.2 + 3 * random.random())
        faults.append(PlannedFault(at, for_s, random.choice(kinds), target, random.random()))
    return tuple(faults)
