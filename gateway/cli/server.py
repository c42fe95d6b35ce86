"""`exchange setup | serve | migrate | doctor | bench`: on the server's own settings, with the server's packages."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.connection import AsJson, fail

if TYPE_CHECKING:
    from gateway.settings import Settings


@contextmanager
def servers_packages() -> Iterator[None]:
    """Around imports that the bare installation cannot make: exit code 1, and what to install."""
    try:
        yield
    except ModuleNotFoundError as missing:
        fail(
            f"This command needs the server's packages ({missing.name} is missing).", "Install them: pip install 'civic-exchange[server]'."
        )


@contextmanager
def own_settings(**given: Any) -> Iterator[Settings]:
    """The settings of `EXCHANGE_...`; those that are refused are exit code 1, with what to do."""
    with servers_packages():
        from gateway.errors import AnotherGatewayIsLive, ExchangeError, SettingsRefused
        from gateway.settings import Settings
    try:
        yield Settings(**given)
    except (SettingsRefused, ValueError) as refused:
        fail(_first_line(refused))
    except AnotherGatewayIsLive:
        fail(
            "another_gateway_is_live: another gateway is at work on this database.",
            "Stop it first: SQLite has one seat.",
        )
    except ExchangeError as error:
        fail(str(error))


def setup(
    organization: Annotated[str, typer.Option(help="The organization that operates this exchange.")] = "",
    issuer: Annotated[str, typer.Option(help="The public root URL; instead of EXCHANGE_ISSUER.")] = "",
    policies: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A folder of policies to activate instead of the shipped ones.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set an exchange up: database, key file, first policy revision, organization, and one operator client, whose secret is shown once.

    On an exchange that is set up, --policies alone activates a further revision.

    Example: exchange setup --organization "City of Mississauga" --issuer https://exchange.example
    """
    if not organization and policies is None:
        raise typer.BadParameter("Name the organization that operates the exchange, by --organization.")
    with own_settings(**({"issuer": issuer} if issuer else {})) as settings:
        from gateway.setup import activate_policies, set_up

        if not organization and policies is not None:
            revision = activate_policies(settings, policies)
            print(json.dumps({"revision": revision}) if as_json else f"{revision} is active.")
            return
        made = set_up(settings, organization, policies)
        if as_json:
            print(json.dumps(asdict(made)))
            return
        print(f"The exchange of {organization} is set up ({settings.issuer}); policy revision {made.revision} is active.\n")
        print(f"  EXCHANGE_CLIENT_ID={made.client_id}\n  EXCHANGE_CLIENT_SECRET={made.client_secret}\n")
        print("That is the operator's client; its secret is shown this once.")
        print(f"The keys are in {settings.resolved_key_file}: back them up apart from the database.")


def serve(
    child_of: Annotated[int, typer.Option(hidden=True, help="Serve in this process, and end when that one ends.")] = 0,
    end_with: Annotated[
        int, typer.Option(hidden=True, help="End, and the gateway too, when the process that has started this one ends.")
    ] = 0,
) -> None:
    """Serve, until SIGTERM or Ctrl-C; streams end with a cursor that resumes them. A gateway that lost its lease is started again.

    Example: EXCHANGE_ENVIRONMENT=development exchange serve
    """
    with own_settings() as settings:
        from gateway.supervise import die_with, supervise

        if end_with:
            die_with(end_with)
        if not child_of:
            raise typer.Exit(supervise(settings, [sys.executable, "-m", "gateway.cli", "serve", "--child-of"]))
        die_with(child_of)
        gc.disable()  # a fifth of the start: what imports make is there to stay
        from gateway.serve import serve  # the supervisor itself stays small

        gc.enable()
        serve(settings)


def migrate() -> None:
    """Bring the database to this version's tables, and add the keys that are new in it to the key file.

    Example: exchange migrate
    """
    with own_settings() as settings:
        from gateway.setup import migrate as bring_to_this_version

        added = bring_to_this_version(settings)
        print("The database is at this version's tables.")
        if added:
            print(f"The key file {settings.resolved_key_file} has new keys, for {', '.join(added)}: back it up again.")


def doctor(as_json: AsJson = False) -> None:
    """Say in one line each what is wrong and how to mend it. Exit code 1 if anything is.

    Example: exchange doctor
    """
    with own_settings() as settings:
        from gateway.doctor import examine

        findings = list(examine(settings))
        if as_json:
            print(json.dumps([{"part": finding.part, "well": finding.well, "says": finding.says} for finding in findings]))
        else:
            for finding in findings:
                print(f"{'ok  ' if finding.well else 'BAD '} {finding.part:<9} {finding.says}")
        if not all(finding.well for finding in findings):
            raise typer.Exit(1)


def bench(only: Annotated[str, typer.Option(help="Run this one alone.")] = "") -> None:
    """Measure, on the real engines, and write bench.json.

    Example: exchange bench --only enforce_us
    """
    command = [sys.executable, "-m", "tests.benchmarks", *(["--only", only] if only else [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def _first_line(error: Exception) -> str:
    """What a refusal says; pydantic-settings wraps ours in lines of its own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("Value error, ")), lines[0] if lines else type(error).__name__)
    return told.removeprefix("Value error, ").partition(" [type=")[0]
