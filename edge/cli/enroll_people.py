"""`edge-enroll people`: list, add, rename, ignore, remove, renew. Argument parsing only."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli.enroll_options import Options, done, from_rows, with_device


@click.group()
def people() -> None:
    """Enrol, list, rename and remove people."""


@people.command("list")
@with_device
def people_list(options: Options) -> None:
    """List who is enrolled."""
    from edge.provision.host import actions, console

    with options.device() as client:
        found = actions.everybody(client)
    options.show({"people": [actions.plain(person) for person in found]}, console.roster(found))


@people.command("add")
@click.argument("name", required=False, default="")
@click.option("--from", "photos", multiple=True, type=click.Path(path_type=Path), help="Photos, or folders of them.")
@click.option("--camera", is_flag=True, help="From the device's own camera, with live hints.")
@click.option("--to", default="", metavar="PERSON", help="Add the pictures to an enrolled person.")
@click.option("--namesake", is_flag=True, help="Enrol another person of a name that is already enrolled.")
@click.option("--ignore", is_flag=True, help="Put this person on the ignore list: neither matched nor reported.")
@with_device
def people_add(  # its options are many
    options: Options, name: str, photos: tuple[Path, ...], *, camera: bool, to: str, namesake: bool, ignore: bool
) -> None:
    """Enrol NAME, or add pictures to PERSON. The device does not keep photos."""
    from edge.provision.host import actions, wizard

    if camera == bool(photos):
        raise click.UsageError("name photos with --from, or --camera")
    if bool(name) == bool(to):
        raise click.UsageError("give a NAME for a new person, or --to for an enrolled person")
    whom = actions.Whom(name, to, ignore, namesake)
    ask = (lambda _: True) if options.yes else wizard.asked
    with options.device() as client:
        if camera:
            report = wizard.from_camera(client, whom, ask)
        else:
            report = wizard.from_photos(client, whom, list(photos), ask)
    if options.as_json:
        options.show(actions.plain(report), "")


@people.command("ignore")
@click.argument("person")
@click.option("--off", is_flag=True, help="Take the person off the ignore list.")
@with_device
def people_ignore(options: Options, person: str, off: bool) -> None:
    """Put PERSON (id, or a name that only one person has) on the ignore list."""
    from edge.provision.protocol.messages import Ignore

    text = f"{person} is {'reported again' if off else 'neither matched nor reported'}"
    done(options, Ignore(person=person, ignored=not off), text)


@people.command("correct")
@click.option("--was", default="", metavar="PERSON", help="The person of the visit.")
@click.option("--not", "instead_of", default="", metavar="PERSON", help="The person whose last match was wrong.")
@with_device
def people_correct(options: Options, was: str, instead_of: str) -> None:
    """Correct the last unknown visit (--was PERSON) or the last match of a person (--not PERSON)."""
    from edge.provision.protocol.messages import Correct

    done(options, Correct(person=was, instead_of=instead_of, sure=options.yes), "corrected")


@people.command("remove")
@click.argument("person")
@with_device
def people_remove(options: Options, person: str) -> None:
    """Remove PERSON (id, or a name that only one person has) and destroy the key of that person's templates."""
    from edge.provision.host import actions
    from edge.provision.protocol import messages, replies

    options.confirm(f"Remove {person} for good?")
    with options.device() as client:
        removed = client.call(messages.Remove(person=person), replies.Removed)
    proof = f"the store, written for the {removed.generation}th time, holds neither the person nor the key"
    options.show(actions.plain(removed), f"{person} is removed: {proof}" if removed.key_destroyed else "NOT removed")
    if not removed.key_destroyed:
        raise click.exceptions.Exit(1)


from_rows(people, "people ")
