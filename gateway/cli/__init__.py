"""The command line, `exchange`: one file a noun.

`setup serve migrate doctor keys restore demo bench` work on the server's own settings and need the server's packages; every other command
is an HTTP client of `EXCHANGE_URL`. Exit codes: 0 done, 1 said no or failed, 2 wrong use, 3 done but for what must be done by hand.
"""

from __future__ import annotations

from importlib.util import find_spec

import typer


def main() -> None:
    """The console script."""
    commands()()


def commands() -> typer.Typer:
    """All commands. `bench` is there where its benchmarks are: in a checkout."""
    from gateway.cli import (
        audit,
        call,
        client,
        consent,
        contract,
        dataset,
        demo,
        keys,
        login,
        notices,
        organization,
        person,
        policy,
        replicas,
        restore,
        server,
    )

    exchange = typer.Typer(
        name="exchange",
        help="A city and its partners share live data under contracts, policy and consent.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in (
        server.setup,
        server.serve,
        server.migrate,
        server.doctor,
        restore.restore,
        demo.demo,
        call.call,
        call.me,
        login.login,
        login.logout,
        login.roles,
        replicas.replicas,
    ):
        exchange.command()(command)
    if find_spec("tests") and find_spec("tests.benchmarks"):
        exchange.command()(server.bench)
    for noun in (audit, client, consent, contract, dataset, keys, notices, organization, person, policy):
        exchange.add_typer(noun.noun)
    return exchange
