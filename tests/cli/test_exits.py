"""Which error ends the program with which code, and that it is told in one line."""

import errno

import pytest

from mcast import errors
from mcast.cli.exits import Ended, ExitCode, exit_code_of, line_of


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("f", 1, "p", "x"), 2),
        (errors.NotSent("nobody"), 3),
        (errors.Unknown("perhaps"), 3),
        (errors.EnvironmentProblem("w", "r"), 4),
        (errors.CorruptionError("disk"), 4),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 4),
        (errors.Refused("no"), 1),
        (errors.NotYet("later"), 1),
        (errors.Gone("gone", 5), 1),
        (Ended(ExitCode.USAGE, "so"), 2),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError(), 70),
        (AssertionError("never"), 70),
    ],
)
def test_codes(error: BaseException, code: int) -> None:
    assert exit_code_of(error) == code


def test_every_error_of_ours_has_a_code_that_is_no_bug() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Error)]
    abstract = {errors.Error}
    assert not [kind for kind in kinds if kind not in abstract and exit_code_of(kind.__new__(kind)) is ExitCode.BUG]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (errors.Refused("two\nlines  here"), "two lines here"),
        (
            errors.ConfigError("cluster.port", "x", "not a number", "give one"),
            "cluster.port = 'x': not a number; give one",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "Permission denied: /x"),
        (KeyError(), "KeyError"),
    ],
)
def test_lines(error: BaseException, line: str) -> None:
    assert line_of(error) == line
