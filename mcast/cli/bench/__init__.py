"""`mcast bench`: what this machine makes of the fabric, on loopback, beside what bare Python makes of it."""

from __future__ import annotations

import typer

from mcast.cli.bench import failover, latency, loss, query, scale, throughput

app = typer.Typer(
    help="Measure this machine: nodes of its own on loopback, gone when it is over.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
for command in (throughput.throughput, latency.latency, query.query, scale.scale, loss.loss, failover.failover):
    app.command(command.__name__)(command)
