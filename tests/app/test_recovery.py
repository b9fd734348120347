"""What the front does about its analyst, without a process and without waiting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.app.recovery import BLAME_AFTER, SUSPECTED_ROWS, End, Patience, Recovery, clock_row_due

WAIT = Patience()


def running(*, careful_through: int = 0) -> Recovery:
    recovery = Recovery()
    recovery.distrust(0, careful_through)
    recovery.launched(0.0)
    recovery.became_ready()
    return recovery


def looked(recovery: Recovery, until: float) -> float | None:
    """Look every second, as the supervisor does, and return the first silence that was too long."""
    for second in range(1, int(until) + 1):
        silent_s = recovery.silence(float(second))
        if silent_s is not None:
            return silent_s
    return None


def test_fifteen_seconds_of_silence_are_too_long_and_a_word_ends_the_wait():
    recovery = running()
    assert looked(recovery, 15) is None
    recovery.heard(15.0)
    assert looked(recovery, 30) is None
    assert recovery.silence(31.0) == pytest.approx(16.0)


def test_time_in_which_the_front_stood_still_is_not_the_analysts_silence():
    recovery = running()
    recovery.silence(1.0)
    assert recovery.silence(600.0) is None  # SIGSTOP of the front, or a suspended machine
    assert recovery.silence(601.0) is None
    assert recovery.silence(603.0) is None


def test_a_start_that_loads_for_long_gets_more_time_after_each_failure():
    recovery = Recovery()
    recovery.launched(0.0)
    assert looked(recovery, 100) == pytest.approx(46.0)
    recovery.died(46.0, End.SILENT, 0)
    recovery.launched(0.0)
    assert looked(recovery, 100) == pytest.approx(91.0)


def test_a_batch_under_suspicion_is_taken_row_by_row_by_a_model_free_analyst():
    recovery = running()
    recovery.began(11, 266)
    launch = recovery.died(100.0, End.SILENT, 1)
    assert (launch.model_free, launch.careful_through, launch.set_aside) == (True, 266, None)
    assert launch.delay_s == 0.0
    assert launch.models_after_s == WAIT.models_after_s


@pytest.mark.parametrize("end", list(BLAME_AFTER))
def test_a_row_that_was_alone_in_enough_deaths_is_set_aside(end: End):
    recovery = running()
    recovery.began(1, 9)
    recovery.died(0.0, end, 1)
    for deaths in range(1, BLAME_AFTER[end] + 1):
        recovery.launched(0.0)
        recovery.became_ready()
        recovery.began(5, 5)
        launch = recovery.died(0.0, end, deaths)
        assert launch.set_aside == (5 if deaths == BLAME_AFTER[end] else None)


def test_a_single_row_gets_less_time_once_its_batch_killed():
    recovery = running()
    recovery.began(1, 9)
    recovery.died(0.0, End.SILENT, 1)
    recovery.launched(0.0)
    recovery.became_ready()
    recovery.began(4, 4)
    assert looked(recovery, 60) == pytest.approx(6.0)


def test_a_large_batch_may_be_silent_for_longer():
    """60,000 alerts in 20 MiB are legal, and nothing can be said while they are read."""
    recovery = running()
    recovery.began(1, 1, 20 << 20, 60_000)
    assert looked(recovery, 100) == pytest.approx(33.0)
    recovery.died(34.0, End.SILENT, 1)
    recovery.launched(0.0)
    recovery.became_ready()
    recovery.began(1, 1, 20 << 20, 60_000)
    assert looked(recovery, 100) == pytest.approx(23.0)
    recovery.committed(1)
    recovery.heard(0.0)
    assert looked(recovery, 100) == pytest.approx(16.0)


def test_a_disk_that_hangs_gets_more_time_and_blames_no_row():
    recovery = running(careful_through=9)
    recovery.began(4, 4)
    recovery.saves()
    assert looked(recovery, 100) == pytest.approx(WAIT.save_s + 1)
    assert recovery.died(61.0, End.STALLED, 5).set_aside is None
    recovery.launched(0.0)
    recovery.became_ready()
    recovery.began(4, 4)
    assert looked(recovery, 100) == pytest.approx(6.0)


def test_a_front_that_ended_uncleanly_makes_the_next_one_careful_with_one_batch():
    recovery = Recovery()
    recovery.distrust(1000, 5000)
    assert recovery.first().careful_through == 1000 + SUSPECTED_ROWS
    assert recovery.counts_ahead
    recovery.committed(1000 + SUSPECTED_ROWS)
    assert not recovery.counts_ahead
    assert not recovery.careful
    idle = Recovery()
    idle.distrust(5000, 5000)
    assert not idle.counts_ahead


def test_what_cannot_be_started_is_tried_again_more_and_more_slowly():
    recovery = Recovery()
    launch = recovery.first()
    delays = []
    for _ in range(8):
        launch = recovery.not_launched(launch)
        delays.append(launch.delay_s)
    assert delays[:4] == [1.0, 2.0, 4.0, 8.0]
    assert delays[-1] == WAIT.restart_limit_s
    assert recovery.deaths_in_a_row == 8
    recovery.launched(0.0)
    assert recovery.not_launched(launch).delay_s == 1.0


def test_what_stands_behind_a_row_that_hangs_is_reached_within_a_minute():
    """Promise 3, with every start taking two seconds."""
    recovery = running()
    recovery.began(1, 9)
    spent = looked(recovery, 60) or 0.0
    launch = recovery.died(spent, End.SILENT, 1)
    for deaths in (1, 2):
        spent += launch.delay_s + 2.0
        recovery.launched(0.0)
        recovery.became_ready()
        recovery.began(4, 4)
        spent += looked(recovery, 60) or 0.0
        launch = recovery.died(spent, End.SILENT, deaths)
    assert launch.set_aside == 4
    assert spent + launch.delay_s + 2.0 < 45.0


def test_care_ends_behind_the_suspected_rows():
    recovery = running(careful_through=20)
    assert recovery.first().careful_through == 20
    recovery.committed(19)
    assert recovery.careful
    recovery.committed(20)
    assert not recovery.careful


def test_restarts_are_immediate_at_first_then_slower_and_a_commit_forgives():
    recovery = Recovery()
    delays = [recovery.died(0.0, End.CRASHED, 0).delay_s for _ in range(12)]
    assert delays[:5] == [0.0, 0.0, 0.0, 0.0, 0.5]
    assert delays == sorted(delays)
    assert delays[-1] == WAIT.restart_limit_s
    recovery.committed(1)
    assert recovery.died(0.0, End.CRASHED, 0).delay_s == 0.0


def test_models_join_later_after_each_death_until_an_hour_went_well():
    recovery = Recovery()
    waits = [recovery.died(100.0, End.CRASHED, 0).models_after_s for _ in range(10)]
    assert waits[:3] == [20.0, 40.0, 80.0]
    assert max(waits) == WAIT.models_limit_s
    assert recovery.died(100.0 + 3601.0, End.CRASHED, 0).models_after_s == 20.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["began", "committed", "ready", "heard", "silence", *End]),
            st.integers(1, 50),
            st.integers(0, 5),
        ),
        max_size=60,
    )
)
def test_only_a_row_that_was_alone_is_ever_set_aside(signals: list[tuple[str, int, int]]):
    recovery = running()
    now = 0.0
    for signal, number, more in signals:
        now += more
        if signal == "began":
            recovery.began(number, number + more)
        elif signal == "committed":
            recovery.committed(number)
        elif signal == "ready":
            recovery.became_ready()
        elif signal == "heard":
            recovery.heard(now)
        elif signal == "silence":
            recovery.silence(now)
        else:
            batch = recovery.batch
            launch = recovery.died(now, End(signal), more)
            assert launch.model_free
            assert launch.set_aside is None or batch == (launch.set_aside, launch.set_aside)
            assert batch is None or launch.careful_through >= batch[1]
            recovery.launched(now)


def test_an_idle_front_tells_the_time_often_only_while_something_waits_for_it():
    assert clock_row_due(5.0, timers=True)
    assert not clock_row_due(4.9, timers=True)
    assert not clock_row_due(59.0, timers=False)
    assert clock_row_due(60.0, timers=False)
