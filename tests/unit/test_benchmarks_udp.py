"""The search for the highest rate without loss: what it finds of paths whose capacity is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.meters import MeterFailed
from benchmarks.meters.udp import CLOSE, FIRST, TRIALS, Search, Trial, search, trial_of


def path(capacity: float, fastest: float = 1e9, overflow: float = 0.0) -> Callable[[float], Trial]:
    """It loses what is above `capacity`, `overflow` of it in the receiver's socket; the sender offers `fastest`."""

    def offer(rate: float) -> Trial:
        offered = min(rate, fastest)
        loss = max(0.0, 1 - capacity / offered)
        return Trial(rate, offered, loss, overflow * loss, min(offered, capacity))

    return offer


@pytest.mark.parametrize("capacity", [5_000.0, 49_000.0, 50_001.0, 333_333.0, 2e6])
def test_the_rate_found_is_just_below_the_capacity(capacity: float) -> None:
    found = search(path(capacity))
    assert capacity / CLOSE <= found.best.goodput <= capacity
    assert found.best.clean and found.limit == "path" and len(found.trials) <= TRIALS + 2


def test_a_rate_remembered_from_the_round_before_makes_the_search_short() -> None:
    new, known = search(path(333_333)), search(path(333_333), 330_000, 1.15)
    assert len(known.trials) < len(new.trials) and known.best.goodput >= 333_333 / CLOSE


def test_a_path_that_only_slows_its_sender_has_the_rate_of_the_sender() -> None:
    found = search(path(1e9, fastest=120_000))
    assert found.limit == "sender" and found.best.goodput == 120_000
    assert max(trial.asked for trial in found.trials) > 2 * 120_000


def test_what_the_receivers_own_socket_loses_is_called_its_limit() -> None:
    assert search(path(100_000, overflow=0.9)).limit == "receiver"
    assert search(path(100_000, overflow=0.1)).limit == "path"


def test_one_hiccup_does_not_decide_but_two_do() -> None:
    def hiccups(times: int) -> Search:
        steady = path(400_000)
        left = [times]

        def offer(rate: float) -> Trial:
            trial = steady(rate)
            if trial.clean and rate > 1.9 * FIRST and left[0]:
                left[0] -= 1
                return Trial(rate, rate, 0.05, 0.0, 0.95 * rate)
            return trial

        return search(offer)

    assert hiccups(1).best.goodput >= 400_000 / CLOSE
    assert hiccups(2).best.goodput < 400_000 / CLOSE


def test_one_lucky_trial_does_not_decide() -> None:
    """Above 100 000 the path loses a little: two trials in a row do, but the third does not, now and then."""
    lucky = iter([False, False, False, True] + [False] * 99)

    def offer(rate: float) -> Trial:
        if rate <= 100_000 or next(lucky):
            return Trial(rate, rate, 0.0, 0.0, rate)
        return Trial(rate, rate, 0.01, 0.0, 0.99 * rate)

    found = search(offer, 90_000)
    assert any(trial.clean and trial.asked > 100_000 for trial in found.trials), "nobody was lucky"
    assert 90_000 <= found.best.asked <= 100_000 and found.limit == "path"
    assert sum(trial.clean and trial.asked == found.best.asked for trial in found.trials) == 2


def test_of_two_clean_trials_the_lesser_counts() -> None:
    """A sender that runs as fast as it can, and is not always as fast."""
    speeds = iter([90_000.0, 99_000.0, 80_000.0, *[99_000.0] * 9])
    found = search(lambda rate: Trial(rate, next(speeds), 0.0, 0.0, min(rate, 80_000.0 + len(str(rate)))), 500_000)
    assert found.limit == "sender" and found.best.goodput == min(trial.goodput for trial in found.trials)


def test_what_never_is_clean_twice_has_no_figure() -> None:
    seen: set[float] = set()

    def offer(rate: float) -> Trial:
        loss = 0.5 if rate in seen else 0.0
        seen.add(rate)
        return Trial(rate, rate, loss, 0.0, rate)

    with pytest.raises(MeterFailed, match="bears repetition, down to"):
        search(offer)


def test_a_path_that_always_loses_has_no_figure() -> None:
    with pytest.raises(MeterFailed, match=r"5\.0% are lost there$"):
        search(lambda rate: Trial(rate, rate, 0.05, 0.0, 0.95 * rate))
    with pytest.raises(MeterFailed, match=r"are lost there, 4\.0% because the sender's kernel refuses them"):
        search(lambda rate: Trial(rate, rate, 0.05, 0.0, 0.95 * rate, refused=0.04))


def test_a_path_that_carries_less_the_more_it_is_asked_for_is_not_asked_the_same_again() -> None:
    """From 90 000 on the sender is slowed down a little more each time, and from 150 000 on some are lost."""

    def offer(rate: float) -> Trial:
        offered = min(rate, 90_000) * (1 - rate / 2e6)
        loss = 0.3 if rate > 150_000 else 0.0
        return Trial(rate, offered, loss, 0.0, (1 - loss) * offered)

    found = search(offer)
    asked = [trial.asked for trial in found.trials]
    assert len(set(asked)) == len(asked) - 1 < TRIALS and max(asked) == 200_000, "the best alone is repeated"
    assert found.best.asked == 100_000 and found.best.goodput == max(it.goodput for it in found.trials if it.clean)


def test_what_the_sender_prints_becomes_rates() -> None:
    said = {"sent": 1000, "seconds": 0.5, "received": 900, "overflow": 50, "span": 0.6, "bytes": 57_600,
            "duplicates": 1, "reordered": 2, "buffer": 33_554_432, "refused": 20}  # fmt: skip
    trial = trial_of(2500, said)
    assert (trial.asked, trial.offered, trial.goodput) == (2500, 2000, 1500)
    assert trial.loss == pytest.approx(0.1) and trial.overflow == 0.05 and not trial.clean and not trial.saturated
    assert (trial.octets, trial.duplicates, trial.reordered, trial.refused) == (57_600, 1, 2, 0.02)
