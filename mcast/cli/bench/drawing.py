"""Drawing a chart into a file with matplotlib, an extra of the package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcast.errors import ConfigError, EnvironmentProblem

if TYPE_CHECKING:
    from mcast.bench.charts import Chart

FORMATS: Final = (".png", ".svg", ".pdf")


def check(path: Path) -> None:
    """Whether a drawing can be made.

    Raises:
        ConfigError: of another kind of file. EnvironmentProblem: matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError("--plot", str(path), "no kind of drawing", f"end it with {', '.join(FORMATS)}")
    if find_spec("matplotlib") is None:
        raise EnvironmentProblem("--plot needs matplotlib", "run in the checkout: pip install -e '.[plot]'")


def draw(chart: Chart, path: Path) -> None:
    """One line for each of the chart's, with a band from the least to the greatest where there were several rounds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for line in chart.lines:
        (drawn,) = axes.plot(line.x, line.y, marker="o", markersize=3.5, label=line.label)
        if line.low and line.high:
            axes.fill_between(line.x, line.low, line.high, color=drawn.get_color(), alpha=0.15)
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if chart.ticks:
        axes.set_xticks([place for place, _ in chart.ticks], [text for _, text in chart.ticks])
        axes.minorticks_off()
    axes.set(title=chart.title, xlabel=chart.x, ylabel=chart.y)
    axes.grid(alpha=0.3)
    if chart.lines:
        axes.legend()
    figure.savefig(path)
