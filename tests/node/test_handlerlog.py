"""What handlers do wrong is said with its traceback, and a flood of it stays a few lines."""

import pytest

from mcast.node.handlerlog import LOG_EVERY_S, LOGGED_AT_FIRST, LOGGED_MAX, TRACE_CHARS, HandlerLog, trace_of


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> HandlerLog:
    return HandlerLog("n1", clock)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_failure_is_told_with_event_name_and_traceback(log: HandlerLog, caplog: pytest.LogCaptureFixture) -> None:
    log.on_failed(12, "work", raised(KeyError("a key")))
    log.replaying = True
    log.on_failed(13, "work", raised(KeyError("another")))
    first, second = caplog.messages
    assert first.startswith("node n1: command work failed (event 12)\nTraceback")
    assert "raise error" in first and first.endswith("KeyError: 'a key'")
    assert "(event 13, replayed)" in second


def test_a_flood_stays_a_few_lines_and_is_counted(
    log: HandlerLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    error = raised(ValueError())
    for seq in range(10_000):
        log.on_failed(seq, "work", error)
    assert len(caplog.messages) == LOGGED_AT_FIRST
    clock.now_s += LOG_EVERY_S
    log.on_failed(10_000, "work", error)
    log.on_failed(10_001, "work", error)
    assert len(caplog.messages) == LOGGED_AT_FIRST + 1
    assert f"({10_000 - LOGGED_AT_FIRST:,} more of these since the last one told)" in caplog.messages[-1]
    assert log.failures == {"work": 10_002}


def test_all_names_together_are_bounded_too(log: HandlerLog, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(100):
        log.on_failed(number, f"work{number}", raised(ValueError()))
        log.on_slow(number, f"work{number}", 1, 0.2)
        log.on_unknown(number, f"work{number}")
        log.on_query_failed(number, f"ask{number}", raised(ValueError()))
        log.on_slow_query(f"ask{number}", 0.2)
    assert len(caplog.messages) == LOGGED_MAX
    clock.now_s += LOG_EVERY_S
    log.on_failed(1, "work99", raised(ValueError()))
    assert len(caplog.messages) == LOGGED_MAX + 1


def test_slow_handlers_are_told_by_name(log: HandlerLog, caplog: pytest.LogCaptureFixture) -> None:
    log.on_slow(7, "work", 1, 0.25)
    log.on_slow(7, "work", 40, 0.5)
    log.on_slow_query("ask", 0.125)
    one, many, query = caplog.messages
    assert one.startswith("node n1: command work took 0.25 s at event 7;")
    assert "took 0.50 s for 40 commands in a run at event 7" in many
    assert "query ask took 0.12 s" in query


def test_unknown_commands_are_counted_and_in_a_replay_only_counted(
    log: HandlerLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.replaying = True
    log.on_unknown(3, "gone\n")
    assert not caplog.messages
    assert (log.unknown_commands, log.first_unknown) == (1, "'gone\\n' at event 3")
    log.replaying = False
    log.on_unknown(4, None)
    assert "event 4 is a command that the state machine does not have" in caplog.messages[0]


def test_no_message_is_too_long_or_does_something_to_a_terminal() -> None:
    class MeanError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert len(trace_of(raised(ValueError("x" * 10_000_000)))) <= TRACE_CHARS + 4
    assert trace_of(raised(MeanError())).endswith("<exception str() failed>")
    assert trace_of(ValueError("\x1b[2J\ud800 é")) == r"ValueError: \u001b[2J\ud800 é"
    nested = raised(ExceptionGroup("many", [ValueError(number) for number in range(1_000)]))
    assert len(trace_of(nested)) <= TRACE_CHARS + 4
