"""The output of `edge-enroll`: progress, live hints, tables. Standard output has only results, so that pipes work."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edge.printable import printable
from edge.provision.host.actions import Counted
from edge.provision.host.fleet import Has
from edge.provision.protocol import replies
from edge.refused_pictures import by_reason

_SHOW_AFTER_S = 0.5
_POSES = {"left": "◐ left", "front": "● front", "right": "◑ right"}

talk = Console(stderr=True, highlight=False)  # for the user
result = Console(highlight=False)  # for programs that read standard output


def plain(text: str, style: str = "") -> Text:
    """Return a text from a device, a file or a person without markup and escape sequences."""
    return Text(printable(text), style=style)


@contextmanager
def transfer(label: str) -> Iterator[Counted]:
    """Show a progress bar while bytes are sent, except for short transfers."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    began_s = time.monotonic()
    bar = Progress(*columns, console=talk, transient=True)
    task = bar.add_task(label, total=None)

    def counted(what: str, done: int, total: int) -> None:
        if not bar.live.is_started and time.monotonic() - began_s > _SHOW_AFTER_S:
            bar.start()
        bar.update(task, description=printable(f"{label} {what}"), completed=done, total=total)

    try:
        yield counted
    finally:
        bar.stop()


@contextmanager
def camera() -> Iterator[Live]:
    """Show the progress of an enrolment from the camera, in place."""
    with Live(console=talk, refresh_per_second=8, transient=True) as live:
        yield live


def card(name: str, progress: replies.Progress) -> Panel:
    """Return the picture of a live enrolment: hint, quality, poses, look-alikes."""
    table = Table.grid(padding=(0, 2))
    table.add_row("[bold]do this[/]", plain(progress.hint, "bold cyan"))
    table.add_row("quality", ProgressBar(total=1.0, completed=progress.quality, width=30))
    table.add_row("pictures", _pictures(progress))
    table.add_row("angles", "  ".join(text if pose in progress.poses else "○" for pose, text in _POSES.items()))
    if similar := progress.looks_like:
        others = f" and {len(similar) - 1} others" if len(similar) > 1 else ""
        table.add_row("[yellow]careful[/]", plain(f"looks like {similar[0]}{others}", "yellow"))
    return Panel(table, title=plain(name), title_align="left", expand=False)


def _pictures(progress: replies.Progress) -> str:
    """Return the accepted and the wanted number of pictures; while poses are missing, more are accepted."""
    if progress.accepted <= progress.wanted:
        return f"{progress.accepted} of {progress.wanted}"
    return f"{progress.accepted}, {progress.wanted} are enough"


def describe(info: replies.DeviceInfo) -> Table:
    """Return the device as a table."""
    table = Table.grid(padding=(0, 2))
    rows = {
        "name": info.name,
        "program": info.version,
        "model": f"{info.model or 'unknown'} ({info.model_slot or 'unknown'})",
        "people": str(info.people),
        "camera": info.camera,
        "broker": f"{info.broker}{' with TLS' if info.tls else ''}{' and a certificate' if info.certificate else ''}",
        "names in events": "yes" if info.publish_names else "no",
        "wanted run time": info.run_time or "no wish",
        "armed for": f"{info.armed_s // 60} min {info.armed_s % 60} s",
    }
    for key, value in rows.items():
        table.add_row(f"[bold]{key}[/]", plain(value))
    return table


def roster(people: Sequence[replies.Person]) -> Table | str:
    """Return the enrolled people as a table."""
    if not people:
        return "nobody is enrolled"
    table = Table("id", "name", "templates", "since", "", box=None, pad_edge=False)
    for person in people:
        table.add_row(
            plain(person.id),
            plain(person.name),
            str(person.templates),
            plain(person.created),
            "ignored" * person.ignored,
        )
    return table


def fleet(have: Sequence[Has]) -> Table:
    """Return who has what, once several devices were set up."""
    table = Table("device", "broker", "certificate", "people", "", box=None, pad_edge=False)
    for has in have:
        people = [f"{name} ({person})" for name, person in has.people.items()]
        notes = [f"{name}: {why}" for name, why in {**has.weak, **has.missing}.items()]
        notes += [has.problem] if has.problem else []
        table.add_row(
            plain(has.name),
            plain(has.broker),
            "yes" if has.certificate else "no",
            plain(", ".join(people)),
            plain("; ".join(notes), "yellow"),
        )
    return table


def enrolled(report: replies.Enrolled) -> str:
    """Return the result of an enrolment as lines: refused pictures by reason, the outcome, hints for a better one."""
    refused = [f"refused  {line}" for line in by_reason(report.pictures)]
    return printable("\n".join([*refused, *report.says]))
