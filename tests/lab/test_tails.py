from pathlib import Path

import pytest

from mcast.lab.tails import lose_tail
from mcast.storage.segment import segment_name


@pytest.mark.parametrize(("share", "zeroed"), [(0.0, True), (0.3, False), (0.75, True), (0.9, False), (1.0, True)])
def test_a_first_share_of_what_was_written_is_left(tmp_path: Path, share: float, zeroed: bool) -> None:
    (tmp_path / "journal").mkdir()
    paths = [tmp_path / "journal" / segment_name(number) for number in (1, 2, 3)]
    for path in paths:
        path.write_bytes(b"x" * 10_000 + bytes(5_000))
    lose_tail(tmp_path, share, zeroed=zeroed)
    left = [path.read_bytes() for path in paths]
    kept = max(int(30_000 * share), 512)
    assert b"".join(data.rstrip(b"\0") for data in left) == b"x" * kept
    assert all(len(data) == 15_000 for data in left) or not zeroed
    if not zeroed:
        sizes = [15_000 if kept >= at + 10_000 else max(kept - at, 0) for at in (0, 10_000, 20_000)]
        assert [len(data) for data in left] == sizes
