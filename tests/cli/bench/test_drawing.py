from pathlib import Path

import pytest

from mcast.bench.charts import Chart, Line
from mcast.cli.app import main
from mcast.cli.bench import drawing
from mcast.cli.exits import ExitCode

CHART = Chart("title", "x", "y", [Line("a", [1, 10], [2, 3], [1, 2], [3, 4]), Line("b", [1, 10], [5, 6])])


def test_a_chart_becomes_a_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "chart.png"
    drawing.draw(CHART, path)
    assert path.stat().st_size > 1_000


def test_axes_are_as_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "chart.svg"
    drawing.draw(Chart("title", "x", "y", CHART.lines, log_x=True, log_y=True, ticks=[(1, "one"), (10, "ten")]), path)
    reported = path.read_text()
    assert "<!-- one -->" in reported and "<!-- ten -->" in reported


def test_a_chart_without_lines_is_drawn_without_a_word(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    drawing.draw(Chart("title", "x", "y", []), tmp_path / "chart.png")


def test_where_matplotlib_is_missing_nothing_is_measured_and_the_command_that_installs_it_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(drawing, "find_spec", lambda name: None)
    assert main(["bench", "throughput", "--plot", str(tmp_path / "x.png")]) == ExitCode.ENVIRONMENT
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "mcast: --plot needs matplotlib; run in the checkout: pip install -e '.[plot]'\n"
