"""`exchange login | logout | roles`: sign a person in and out, and say what each role may do."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import httpx2
import typer

from connectors.client import Client
from connectors.problem import ProblemError, raise_for_problem
from gateway.cli.connection import AsJson, connected, fail, password, show_list
from gateway.cli.sign_in import Fresh, Provider, SignInFailed, by_browser, on_another_device
from gateway.cli.signed_in import TokenFile, granted, sign_out
from gateway.identity.roles import ROLES

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - the name of a kind
LOCAL_ACCOUNT = "urn:civic-exchange:oauth:grant-type:local-account"


def login(
    device: Annotated[bool, typer.Option("--device", help="Sign in on another device (RFC 8628): here is no browser.")] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open nothing.")] = False,
    provider: Annotated[str, typer.Option(help="The issuer of the provider, if the exchange knows several.")] = "",
    local: Annotated[
        str,
        typer.Option(help="The name of a local account, instead of a provider; its password is asked for, or in EXCHANGE_PASSWORD_FILE."),
    ] = "",
) -> None:
    """Sign in as a person. Commands act in that name until `exchange logout`, unless EXCHANGE_CLIENT_ID is set.

    Example: exchange login --device
    """
    how = {"device": device, "no_browser": no_browser, "provider": provider, "local": local}
    with connected(anonymous=True) as client:
        file = TokenFile(client.issuer)
        with file.held():
            before = file.read()
            file.write(sign_in_again(client)(Fresh(), {"how": how}))
        if before is not None:
            sign_out(client.http, str(before["access_token"]))
    with connected(as_person=True) as client:
        me = client.get("/v1/me")
        where = me.get("organization", {}).get("name", "no organization")
        print(f"Signed in as {me['person']['id']} of {where}; roles: {', '.join(me['roles'])}.")


def logout() -> None:
    """Sign out: the tokens on this machine are of no use from now on, and are deleted.

    Example: exchange logout
    """
    with connected(anonymous=True) as client:
        file = TokenFile(client.issuer)
        kept = file.read()
        if kept is None:
            print("Nobody is signed in here.")
            return
        with connected(as_person=True) as person:
            try:
                person.post("/v1/me/sign-out")
            except ProblemError as problem:
                if problem.status not in {400, 401}:  # over already
                    raise
        file.remove()
        print("Signed out.")


def roles(as_json: AsJson = False) -> None:
    """List the roles: what each may do, who holds it, and the scopes that a person has by it.

    Example: exchange roles
    """
    rows = [{"role": role.name, "may": role.may, "held_by": role.held_by, "scopes": sorted(role.scopes)} for role in ROLES.values()]
    show_list(rows, ("role", "may", "scopes"), as_json=as_json)


def sign_in_again(client: Client) -> Any:
    """What signs the person in, at first and whenever a call asks for it anew (`signed_in.Renewal`)."""

    def renewal(fresh: Fresh, kept: Mapping[str, Any]) -> dict[str, Any]:
        how = kept["how"]
        if fresh.max_age is not None:
            print("This act asks for you to sign in again.", file=sys.stderr, flush=True)
        try:
            form = _by_password(how) if how["local"] else _at_provider(client, how, fresh)
        except SignInFailed as failed:
            fail(str(failed))
            raise
        except (httpx2.HTTPError, ValueError) as error:
            fail(f"The OpenID provider does not answer: {error}")
            raise
        return granted(client.http, form) | {"how": dict(how)}

    return renewal


def _by_password(how: Mapping[str, Any]) -> dict[str, str]:
    return {"grant_type": LOCAL_ACCOUNT, "username": how["local"], "password": password(confirm=False)}


def _at_provider(client: Client, how: Mapping[str, Any], fresh: Fresh) -> dict[str, str]:
    provider = _provider(client, how["provider"])
    token = on_another_device(provider, fresh) if how["device"] else by_browser(provider, fresh, open_browser=not how["no_browser"])
    return {
        "grant_type": TOKEN_EXCHANGE,
        "subject_token": token.value,
        "subject_token_type": ID_TOKEN,
        "nonce_verifier": token.nonce_verifier,
    }


def _provider(client: Client, issuer: str) -> Provider:
    answer = client.http.get("/.well-known/oauth-authorization-server")
    raise_for_problem(answer)
    known = answer.json().get("exchange_sign_in", {}).get("openid_providers", [])
    chosen = [Provider(one["issuer"], one["client_id"], one["scope"]) for one in known if issuer in {"", one["issuer"]}]
    if not chosen:
        raise SignInFailed(
            f"The exchange at {os.environ.get('EXCHANGE_URL')} knows no such OpenID provider."
            if issuer
            else "This exchange has no OpenID provider: sign in by `exchange login --local NAME`, if it has local accounts."
        )
    return chosen[0]
