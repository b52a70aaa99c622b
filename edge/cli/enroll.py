"""`edge-enroll`: set a device up over one USB cable. Alone it is a wizard; each step is also a command.

Argument parsing only.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from edge import __version__
from edge.cli.ending import run_to_end
from edge.cli.enroll_fleet import fleet
from edge.cli.enroll_options import Options, done, from_rows, with_device
from edge.cli.enroll_people import people
from edge.printable import printable
from edge.vocabulary import ARMED_MINUTES


def main() -> None:
    """Run the command; an EdgeError ends it with its exit code and no traceback."""
    run_to_end(cli, interrupted="interrupted; the device is as it was before this step")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-enroll")
@with_device
def cli(options: Options) -> None:
    """Set a device up over one USB cable. Without a command: a wizard that leads through everything."""
    if click.get_current_context().invoked_subcommand is None:
        from edge.provision.host import wizard

        with options.device() as client:
            wizard.run(client)


@cli.command()
@with_device
def info(options: Options) -> None:
    """Show what the device is, and its state."""
    from edge.provision.host import actions, console
    from edge.provision.protocol import messages, replies

    with options.device() as client:
        found = client.call(messages.Info(), replies.DeviceInfo)
    options.show(actions.plain(found), console.describe(found))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ports(as_json: bool) -> None:
    """List the devices that are plugged in."""
    from edge.provision.protocol import port

    found = port.find()
    if as_json:
        click.echo(json.dumps({"ports": [{"port": f.path, "description": f.description} for f in found]}))
    else:
        click.echo(printable("\n".join(f"{f.path}  {f.description}" for f in found) or "no device is plugged in"))


@cli.command("time")
@with_device
def set_time(options: Options) -> None:
    """Set the device's clock to this computer's."""
    from edge.provision.protocol.messages import SetTime

    done(options, SetTime(unix_s=time.time()), "done")


@cli.command()
@click.option("--host", help="The broker.")
@click.option("--broker-port", type=click.IntRange(1, 65535), help="Its port: 1883 plain, 8883 with TLS.")
@click.option("--prefix", help="Topics are PREFIX/DEVICE/….")
@click.option("--username", help="Empty: no password.")
@click.option("--password-file", type=click.File(), help="File with the password; '-' is standard input.")
@click.option("--tls/--no-tls", default=None, help="Encrypt the connection.")
@click.option("--discovery/--no-discovery", default=None, help="Announce the device to Home Assistant.")
@click.option("--acks/--no-acks", default=None, help="Keep events until a consumer acknowledges them.")
@with_device
def mqtt(options: Options, broker_port: int | None, password_file: Any, **wishes: Any) -> None:
    """Set the broker. Values that are not given stay."""
    from edge.provision.protocol.messages import SetMqtt

    password = None if password_file is None else password_file.read().rstrip("\r\n")
    done(options, SetMqtt(port=broker_port, password=password, **wishes), "the broker is set")


@cli.command()
@click.option("--names/--no-names", required=True, help="Whether events carry names of people.")
@with_device
def privacy(options: Options, names: bool) -> None:
    """Set what may leave the device besides the opaque id."""
    from edge.provision.protocol.messages import SetPrivacy

    done(options, SetPrivacy(publish_names=names), f"events carry {'names' if names else 'no names'}")


@cli.command("certificate-request")
@click.option("--out", type=click.File("w"), default="-", help="File for the request; default: standard output.")
@with_device
def certificate_request(options: Options, out: Any) -> None:
    """Make a key on the device, and return a request for its certificate. The key never leaves the device."""
    from edge.provision.protocol.messages import MakeCsr
    from edge.provision.protocol.replies import Csr

    with options.device() as client:
        csr = client.call(MakeCsr(), Csr)
    out.write(json.dumps({"pem": csr.pem}) + "\n" if options.as_json else printable(csr.pem))


@cli.command()
@click.option("--certificate", type=click.File(), help="The device's certificate, PEM.")
@click.option("--authority", type=click.File(), help="The authority of the broker, PEM.")
@with_device
def certificate(options: Options, certificate: Any, authority: Any) -> None:
    """Install the device's certificate and the certificate of the broker's authority."""
    from edge.provision.protocol.messages import SetCertificate

    texts = {key: file.read() for key, file in (("certificate", certificate), ("authority", authority)) if file}
    if not texts:
        raise click.UsageError("name --certificate, --authority or both")
    done(options, SetCertificate(**texts), "the connection to the broker is encrypted from now on")


@cli.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write.")
@with_device
def diagnostics(options: Options, out: Path) -> None:
    """Fetch a diagnostics bundle. You see its contents before any of it is sent."""
    from edge.provision.host import actions
    from edge.provision.protocol import messages, replies

    with options.device() as client:
        parts = client.call(messages.ListDiagnostics(), replies.Diagnostics).parts
        for part in parts:
            click.echo(printable(f"{part.name:14} {part.size:6} bytes  {part.holds}"), err=True)
        options.confirm("Send these?")
        texts = actions.diagnostics(client, [part.name for part in parts])
    out.write_text(json.dumps({key: json.loads(text) for key, text in texts.items()}, indent=1) + "\n", "utf-8")
    options.show({"file": str(out), "parts": list(texts)}, f"{out}: {', '.join(texts)}")


@cli.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--roll-back", is_flag=True, help="Return to the previous model.")
@with_device
def update(options: Options, bundle: Path | None, roll_back: bool) -> None:
    """Send a signed model BUNDLE. The device tests it before use. An interrupted transfer is continued."""
    from edge.provision.host import actions, console
    from edge.provision.protocol import messages, replies

    if roll_back == (bundle is not None):
        raise click.UsageError("name a bundle, or --roll-back")
    with options.device() as client:
        if bundle is None:
            updated = client.call(messages.UpdateRollBack(), replies.Updated)
        else:
            with console.transfer("sending") as counted:
                updated = actions.update(client, bundle.read_bytes(), counted)
    text = f"model {updated.model} in slot {updated.slot}; self-test: cosine {updated.self_test}"
    more = updated.enrol_again_count - len(updated.enrol_again)
    again = [f"enrol again, this model cannot recognise: {printable(name)}" for name in updated.enrol_again]
    options.show(actions.plain(updated), "\n".join([text, *again, *([f"and {more} more"] if more > 0 else [])]))


@cli.command("stay-armed")
@click.option("--minutes", type=click.IntRange(*ARMED_MINUTES), default=15, show_default=True)
@with_device
def stay_armed(options: Options, minutes: int) -> None:
    """Keep the armed device ready for further conversations, with the same code."""
    from edge.provision.protocol.messages import Arm

    done(options, Arm(minutes=minutes), "it stays armed")


@cli.command("factory-reset")
@with_device
def factory_reset(options: Options) -> None:
    """Delete all people and all settings."""
    from edge.provision.host import actions
    from edge.provision.protocol import messages, replies

    with options.device() as client:
        device = client.call(messages.Info(), replies.DeviceInfo)
        options.confirm(printable(f"Forget the {device.people} people and all settings of '{device.name}' for good?"))
        answer = client.call(messages.FactoryReset(name=device.name), replies.Done)
    options.show(actions.plain(answer), answer.note)


@cli.command()
@click.option("--video", type=click.Path(path_type=Path, exists=True), help="Video for the simulated camera.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the simulated device.",
)
@click.option("--serve", is_flag=True, help="Without the wizard; print port and code as one JSON object.")
def simulate(video: Path | None, folder: Path | None, serve: bool) -> None:
    """Try everything without hardware: the real device processes, a video as the camera, and the wizard."""
    from edge.provision.host import console, simulator, wizard

    with simulator.device(video or simulator.default_video(), folder) as device:
        if serve:
            click.echo(json.dumps({"port": str(device.port), "code": device.code, "log": str(device.log)}))
            sys.stdin.read()  # until the device ends, or Ctrl-C
            return
        console.talk.print(f"The simulated device is plugged in at {device.port}", soft_wrap=True)
        console.talk.print(f"On its label stands [bold]{device.code}[/]")
        with Options(str(device.port), None, as_json=False, yes=False).device() as client:
            wizard.run(client)
        click.pause("The device runs on until you press a key …", err=True)


cli.add_command(people)
cli.add_command(fleet)
from_rows(cli)

if __name__ == "__main__":
    main()
