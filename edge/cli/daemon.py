"""`edge-daemon`: run, vision, publish, people, status, watch, try, doctor and the rest. Argument parsing only."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import click

from edge import __version__, config
from edge.cli.ending import run_to_end
from edge.cli.options import with_config, with_config_as_caller
from edge.cli.people import people
from edge.errors import ConfigError, ModelError
from edge.inspection import refuse_inspection
from edge.printable import printable
from edge.privileges import drop_to_owner, share
from edge.vocabulary import ARMED_MINUTES

_LEAVING_THE_NETWORK = frozenset({"vision", "provision"})  # it writes in /proc/self, which then belongs to root


def main() -> None:
    """Run the command; an EdgeError ends it with its exit code and no traceback."""
    run_to_end(cli)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-daemon")
@click.option("--verbose", is_flag=True, help="Say more in the log.")
@click.pass_context
def cli(context: click.Context, verbose: bool) -> None:
    """Face recognition on the device: only match events leave it, never faces."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if context.invoked_subcommand not in _LEAVING_THE_NETWORK:
        refuse_inspection()


@cli.command()
@with_config
def run(config_path: Path) -> None:
    """Run vision and publisher on a workbench. On a device systemd starts them."""
    settings = config.load(config_path)
    from edge.processes import signals, workbench

    sys.exit(workbench.run(settings, config_path, signals.stop_on_signals()))


@cli.command()
@with_config_as_caller
def vision(config_path: Path) -> None:
    """Run the process that sees; it has no network."""
    from edge.processes import following, sandbox  # before anything that starts threads

    settings, fault = following.settings_at_start(config_path)
    if settings.camera.source in {"mjpeg", "rtsp"}:
        logging.getLogger("edge").warning("the source is a network stream: this process keeps its network")
    else:
        logging.getLogger("edge").info("network: %s", sandbox.leave_network())
    drop_to_owner(settings.data.path)
    refuse_inspection()
    from edge.health import Notifier
    from edge.processes import signals
    from edge.processes import vision as process

    stop, hangup, notifier = signals.stop_on_signals(), signals.reload_on_hangup(), Notifier()
    start = settings, fault
    sys.exit(following.repeat(config_path, start, lambda c, wrong: process.run(c, stop, hangup, notifier, wrong)))


@cli.command()
@with_config
def publish(config_path: Path) -> None:
    """Run the process that sends events; it has no pixels."""
    from edge.health import Notifier
    from edge.processes import following, publish, signals

    stop, hangup, notifier = signals.stop_on_signals(), signals.reload_on_hangup(), Notifier()
    following.follow(config_path, stop, hangup, lambda settings, over: publish.run(settings, over, notifier))
    notifier.stopping()


@cli.command()
@with_config_as_caller
@click.option("--pty", type=click.Path(path_type=Path), help="Serve a pseudo-terminal that this link will name.")
def provision(config_path: Path, pty: Path | None) -> None:
    """Run the process at the cable; it has no camera, no store and no network."""
    settings = config.load_without_owner(config_path)  # without the owner's settings: it resets damaged ones
    from edge.processes import sandbox

    logging.getLogger("edge").info("network: %s", sandbox.leave_network())
    drop_to_owner(settings.data.provision)
    refuse_inspection()
    from edge.health import Notifier
    from edge.processes import provision as process
    from edge.processes import signals

    sys.exit(process.run(settings, config_path, signals.stop_on_signals(), Notifier(), pty))


@cli.command()
@with_config_as_caller
@click.option("--minutes", type=click.FloatRange(*ARMED_MINUTES), help="Default: [provision] armed_minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def arm(config_path: Path, minutes: float | None, as_json: bool) -> None:
    """Let a host try the code once, and print the code.

    It does not open the cable: on a device `systemctl start edge-arm` does both.
    """
    from edge.processes import provision as process

    settings = config.load_without_owner(config_path)
    drop_to_owner(settings.data.provision)
    code, wait_s = process.arm(settings, minutes)
    if as_json:
        click.echo(json.dumps({"code": code, "wait_s": round(wait_s)}))
    elif wait_s:
        click.echo(f"too many wrong codes: armed again in {wait_s:.0f} s at the earliest")
    else:
        click.echo(f"armed; the code is {code}")
    sys.exit(1 if wait_s else 0)


@cli.command("check-config")
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check_config(config_path: Path, as_json: bool) -> None:
    """Check the configuration and say what is wrong with it."""
    from edge.config.usable import check

    settings = check(config_path)
    from edge.models.manifest import load_manifest
    from edge.models.slots import Slots

    try:
        files = load_manifest(Slots(settings.data.models).manifest).embedder(settings.recognition.model).files
    except ModelError as e:
        raise ConfigError(f"{config_path}: [recognition] model: {e.what}", e.remedy) from None
    if (backend := settings.recognition.backend) not in files:
        what = f"{config_path}: [recognition] backend: there is no file of {settings.recognition.model} for {backend}"
        raise ConfigError(what, f'set backend = "{next(iter(files))}"')
    click.echo(json.dumps({"file": str(config_path), "good": True}) if as_json else f"{config_path}: good")


@cli.command("share-files")
@with_config_as_caller
def share_files(config_path: Path) -> None:
    """Change the owners of an earlier version's files to those of this version. The installer runs it."""
    from edge.provision.device.staging import Staging

    settings = config.load_without_owner(config_path)
    share(settings.data.outbox.parent)
    share(settings.data.settings)
    share(settings.data.provision, only={Staging(settings.data.provision).path.name})


@cli.command()
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(config_path: Path, as_json: bool) -> None:
    """Show the last reports of the processes."""
    from edge.processes import following
    from edge.processes import status as process

    settings, _ = following.settings_at_start(config_path)
    report = process.status(settings)
    click.echo(json.dumps(report) if as_json else printable(process.as_text(report)))


@cli.command()
@with_config
@click.option("--to", type=click.Path(path_type=Path), help="File for node-exporter's textfile collector.")
def metrics(config_path: Path, to: Path | None) -> None:
    """Print the state of the device as Prometheus metrics, or write them to a file."""
    from edge.processes import following, status
    from edge.processes import metrics as process

    settings, _ = following.settings_at_start(config_path)
    text = process.render(status.status(settings))
    if to is None:
        click.echo(text, nl=False)
    else:
        process.write(text, to)


@cli.command()
@with_config
@click.option("--once", is_flag=True, help="Show the present view once, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a message.")
def watch(config_path: Path, once: bool, as_json: bool) -> None:
    """Show the faces in view: measures, and the person with score or the reason for none. Nothing is sent."""
    from edge.processes import following
    from edge.processes import sight as process

    settings, _ = following.settings_at_start(config_path)
    for said in process.watched(settings.data.sight_socket):
        clear = "\x1b[2J\x1b[H" if sys.stdout.isatty() and not once else ""
        click.echo(json.dumps(said) if as_json else clear + process.as_table(said))
        if once:
            return


@cli.command("try")
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def try_pictures(pictures: tuple[Path, ...], config_path: Path, as_json: bool) -> None:
    """Show for each face on PICTURES, files or folders, the person or the reason for none. Nothing is sent or kept."""
    settings = config.load(config_path)
    from edge.processes import trial as process
    from edge.processes.gallery import LiveGallery

    gallery = LiveGallery(settings)
    tried = process.tried(settings, gallery, pictures)
    if as_json:
        click.echo(json.dumps({"pictures": [process.as_dict(picture, gallery) for picture in tried]}))
        return
    for picture in tried:
        click.echo(process.as_text(picture, gallery))


@cli.command()
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(config_path: Path, as_json: bool) -> None:
    """Check everything that recognition needs, and show the remedy of each fault."""
    from edge.processes import doctor as process

    findings = process.examine(config.load(config_path), config_path)
    if as_json:
        click.echo(json.dumps({"findings": [finding.as_dict() for finding in findings]}))
    else:
        for finding in findings:
            click.echo(printable(finding.as_text()))
    sys.exit(1 if any(finding.level == "FAIL" for finding in findings) else 0)


@cli.command()
@click.argument("wish", required=False, type=click.Choice(["on", "off"]))
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def recognition(wish: str | None, config_path: Path, as_json: bool) -> None:
    """Switch recognition on or off, or show the present setting. It survives restarts, as over MQTT."""
    from edge.processes import following, switching

    settings, _ = following.settings_at_start(config_path)
    on = switching.recognition(settings, None if wish is None else wish == "on")
    click.echo(json.dumps({"recognition": on}) if as_json else f"recognition is {'on' if on else 'off'}")


cli.add_command(people)


if __name__ == "__main__":
    main()
