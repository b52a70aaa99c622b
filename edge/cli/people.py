"""`edge-daemon people`: enrol, extend, list, rename, ignore, remove. Argument parsing only."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge import config
from edge.cli.options import with_config
from edge.printable import printable

if TYPE_CHECKING:
    from edge.config import Config

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def people() -> None:
    """Enrol, list, rename and remove people. PERSON is an id, or a name that only one person has."""


@people.command("list")
@with_config
@_JSON
def people_list(config_path: Path, as_json: bool) -> None:
    """List who is enrolled."""
    from edge.processes import register as process
    from edge.processes.reports import counted

    found = process.listing(config.load(config_path))
    if as_json:
        click.echo(json.dumps({"people": found}))
        return
    for person in found:
        note = "  (ignored: neither matched nor reported)" if person["ignored"] else ""
        kept = f", {counted(person['crops'], 'crop')} kept" if person["crops"] else ""
        missing = "must be enrolled again: the model has changed"
        known = counted(person["templates"], "template") if person["templates"] else missing
        click.echo(printable(f"{person['id']}  {person['name']}  {known}{kept}, {person['created']}{note}"))
    if not found:
        click.echo("nobody is enrolled")


@people.command("add")
@click.argument("name", required=False, default="")
@with_config
@click.option(
    "--from",
    "sources",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Pictures, videos or folders of them; without NAME a folder of folders or a CSV file. Can be repeated.",
)
@click.option("--to", default="", metavar="PERSON", help="Add the pictures to an enrolled person.")
@click.option("--namesake", is_flag=True, help="Enrol another person of a name that is already enrolled.")
@click.option("--ignore", is_flag=True, help="Put this person on the ignore list: neither matched nor reported.")
@click.option(
    "--keep-crops/--no-keep-crops",
    default=None,
    help="Keep the crops of the templates, encrypted, for a later model; default: [store] keep_crops.",
)
@click.option("--yes", is_flag=True, help="Answer yes to every question.")
@_JSON
def people_add(
    *,
    name: str,
    config_path: Path,
    sources: tuple[Path, ...],
    to: str,
    namesake: bool,
    ignore: bool,
    keep_crops: bool | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Enrol NAME from pictures or videos that show this one person, or add them to PERSON.

    Without NAME and --to, each folder in the folder is one person, or a CSV file names people and pictures.
    """
    from edge.processes import enrolling as process

    if name and to:
        raise click.UsageError("give a NAME for a new person, or --to for an enrolled person")
    if to and (ignore or namesake):
        raise click.UsageError("--to takes neither --ignore nor --namesake: 'people ignore' changes who is enrolled")
    settings = process.keeping(config.load(config_path), crops=keep_crops)
    if not name and not to:
        _add_all(settings, sources, ignored=ignore, as_json=as_json)
        return
    report = process.add(settings, name, sources, ignored=ignore, to=to, namesake=namesake, ask=_asker(yes=yes))
    click.echo(json.dumps(report.as_dict()) if as_json else printable(report.as_text()))


def _add_all(settings: Config, sources: tuple[Path, ...], *, ignored: bool, as_json: bool) -> None:
    from edge.processes import roster as process

    done: dict[str, list[dict[str, Any]]] = {"people": [], "refused": []}
    for result in process.add_all(settings, sources, ignored=ignored):
        done["refused" if isinstance(result, process.Refused) else "people"].append(result.as_dict())
        if not as_json:
            click.echo(printable(result.as_text()))
    enrolled, refused = len(done["people"]), len(done["refused"])
    click.echo(json.dumps(done) if as_json else f"{enrolled} of {enrolled + refused} people enrolled")
    sys.exit(1 if refused else 0)


@people.command("update")
@with_config
@click.option("--dry-run", is_flag=True, help="Only show who can be converted, and who must be enrolled again.")
@_JSON
def people_update(config_path: Path, dry_run: bool, as_json: bool) -> None:
    """Convert all people to the model in use, from kept crops; names the people who must be enrolled again."""
    from edge.processes import conversion as process

    settings = config.load(config_path)
    found = process.preview(settings) if dry_run else process.update(settings)
    click.echo(json.dumps(found.as_dict()) if as_json else printable(found.as_text(done=not dry_run)))


@people.command("remove")
@click.argument("person")
@with_config
@click.option("--yes", is_flag=True, help="Ask nothing.")
@_JSON
def people_remove(person: str, config_path: Path, yes: bool, as_json: bool) -> None:
    """Remove PERSON and destroy the key of that person's templates."""
    from edge.processes import register as process

    settings = config.load(config_path)
    found = process.found(settings, person)
    if not yes and sys.stdin.isatty():
        click.confirm(printable(f"Remove {found.name} ({found.id}) for good?"), abort=True, err=True)
    erasure = process.remove(settings, found.id)
    text = f"{found.name} ({found.id}) is removed; key and templates are deleted from the store"
    _show({"person": erasure.person, "removed": erasure.gone}, text, as_json=as_json)


@people.command("rename")
@click.argument("person")
@click.argument("name")
@with_config
@_JSON
def people_rename(person: str, name: str, config_path: Path, as_json: bool) -> None:
    """Give PERSON another NAME."""
    from edge.processes import register as process

    renamed = process.rename(config.load(config_path), person, name)
    _show({"person": renamed.id, "name": renamed.name}, f"{renamed.id} is now called {renamed.name}", as_json=as_json)


@people.command("ignore")
@click.argument("person")
@with_config
@click.option("--off", is_flag=True, help="Take the person off the ignore list.")
@_JSON
def people_ignore(person: str, config_path: Path, off: bool, as_json: bool) -> None:
    """Put PERSON on the ignore list: neither matched nor reported."""
    from edge.processes import register as process

    changed = process.set_ignored(config.load(config_path), person, ignored=not off)
    text = f"{changed.name} ({changed.id}) is {'reported again' if off else 'neither matched nor reported'}"
    _show({"person": changed.id, "ignored": changed.ignored}, text, as_json=as_json)


@people.command("correct")
@click.option("--was", default="", metavar="PERSON", help="The person of the visit.")
@click.option("--not", "instead_of", default="", metavar="PERSON", help="The person whose last match was wrong.")
@click.option("--yes", is_flag=True, help="Also if the visit looks like another person.")
@with_config
@_JSON
def people_correct(*, was: str, instead_of: str, config_path: Path, yes: bool, as_json: bool) -> None:
    """Correct the last unknown visit (--was PERSON) or the last match of a person (--not PERSON).

    Needs [people] correct_min, and the running vision process that saw the visit.
    """
    import time

    from edge.errors import EnrolmentError
    from edge.provision.device.control_socket import ControlClient
    from edge.provision.protocol import messages, replies

    client = ControlClient(config.load(config_path).data.control_socket, time.monotonic, time.sleep)
    answer = client.call(messages.Correct(person=was, instead_of=instead_of, sure=yes))
    client.close()
    if isinstance(answer, replies.Failed):
        raise EnrolmentError(answer.what, answer.remedy)
    assert isinstance(answer, replies.Done)  # noqa: S101 (the table of commands allows no other)
    _show({"corrected": answer.note}, answer.note, as_json=as_json)


@people.command("seen")
@click.argument("person", required=False, default="")
@with_config
@_JSON
def people_seen(person: str, config_path: Path, as_json: bool) -> None:
    """Show who was met, or the visits of PERSON. The record never leaves this device. Needs [people] seen_days."""
    from edge.processes import register as process

    settings = config.load(config_path)
    found = process.seen(settings, person)
    if as_json:
        click.echo(json.dumps({"seen": found}))
        return
    for visit in found:
        click.echo(printable(f"{visit['from']} – {visit['until']}  {visit['name']} ({visit['person']})"))
    if not found:
        off = "" if settings.people.seen_days else ": [people] seen_days is 0, so nothing is noted"
        click.echo(f"nobody{off}")


def _show(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(data) if as_json else printable(text))


def _asker(*, yes: bool) -> Any:
    """Return a function that asks at the terminal; without a terminal it answers no."""
    if yes or not sys.stdin.isatty():
        return lambda _: yes
    return lambda question: click.confirm(printable(question), default=False, err=True)
