"""`exchange consent`: what people agreed to, by the provider that they told."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from gateway.cli import consent_import, consent_notice
from gateway.cli.connection import AsJson, connected, show, show_list

noun = typer.Typer(
    name="consent",
    help="Consent records. A subject and a withdrawal code are read from stdin: they do not belong in a shell's history.",
    no_args_is_help=True,
)
noun.add_typer(consent_notice.noun)
noun.command("import")(consent_import.import_)

Id = Annotated[str, typer.Argument(help="The consent record, cns_...")]
AskedBy = Annotated[str, typer.Option(help="subject or guardian.")]
Reason = Annotated[str | None, typer.Option(help="In a few words, why.")]


@noun.command()
def give(
    notice: Annotated[str, typer.Option(help="The notice that the person was shown, ntc_...; its newest version.")],
    purpose: Annotated[list[str] | None, typer.Option(help="What for; repeat for more. All of the notice's, if left out.")] = None,
    recipient: Annotated[list[str] | None, typer.Option(help="Who may receive, org_...; repeat for more. All, if left out.")] = None,
    language: Annotated[str, typer.Option(help="In which language they were shown it: en or fr.")] = "en",
    given_by: Annotated[str, typer.Option(help="subject, guardian or provider.")] = "subject",
    state: Annotated[str, typer.Option(help="given, requested, or refused: under a notice with opt-out, an objection.")] = "given",
    as_json: AsJson = False,
) -> None:
    """Record what the person named on stdin says. The receipt and the withdrawal code are for them; they are told this once.

    Example: exchange consent give --notice ntc_01j... <visitor.txt
    """
    subject = _line("subject's identifier")
    with connected() as client:
        body = consent_notice.terms(client, notice, purpose, recipient, language) | {"subject": subject, "state": state}
        show(client.post("/v1/consents", body | ({} if state == "requested" else {"given_by": given_by})), as_json=as_json)


@noun.command("show")
def show_(consent: Id, as_json: AsJson = False) -> None:
    """Show a consent record and its history; it does not say whose it is.

    Example: exchange consent show cns_01j...
    """
    with connected() as client:
        show(client.get(f"/v1/consents/{consent}"), as_json=as_json)


@noun.command()
def search(dataset: Annotated[str, typer.Option(help="The dataset's slug.")], as_json: AsJson = False) -> None:
    """List the records of the person named on stdin.

    Example: exchange consent search --dataset port-credit-footfall <visitor.txt
    """
    with connected() as client:
        found = client.post("/v1/consents/search", {"dataset": dataset, "subject": _line("subject's identifier")})
        show_list(found["items"], ("id", "state", "purposes", "recipients", "renewal_needed"), as_json=as_json)


@noun.command()
def withdraw(
    consent: Annotated[str, typer.Argument(help="The consent record, cns_...; `-`: by the withdrawal code on stdin, without an account.")],
    asked_by: AskedBy = "subject",
    as_json: AsJson = False,
) -> None:
    """Withdraw: when this returns, no more events of that person are delivered under it.

    Example: exchange consent withdraw cns_01j...
    """
    if consent == "-":
        code = _line("withdrawal code")
        with connected(anonymous=True) as client:
            show(client.post("/v1/consents/withdraw", {"code": code}), as_json=as_json)
        return
    _act(consent, "withdraw", {"asked_by": asked_by}, as_json=as_json)


@noun.command()
def pause(consent: Id, asked_by: AskedBy = "subject", as_json: AsJson = False) -> None:
    """Let nothing pass until the person resumes it.

    Example: exchange consent pause cns_01j...
    """
    _act(consent, "pause", {"asked_by": asked_by}, as_json=as_json)


@noun.command()
def resume(consent: Id, asked_by: AskedBy = "subject", as_json: AsJson = False) -> None:
    """Go on after a pause: by the person only.

    Example: exchange consent resume cns_01j...
    """
    _act(consent, "resume", {"asked_by": asked_by}, as_json=as_json)


@noun.command()
def revoke(consent: Id, reason: Reason = None, as_json: AsJson = False) -> None:
    """End a record by an act that is not the person's.

    Example: exchange consent revoke cns_01j... --reason "The study has ended."
    """
    _act(consent, "revoke", {"reason": reason}, as_json=as_json)


@noun.command()
def receipt(
    consent: Id,
    new_code: Annotated[bool, typer.Option("--new-code", help="With a new withdrawal code, for a person who has lost theirs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the signed receipt of a record, a JWS, for the person.

    Example: exchange consent receipt cns_01j...
    """
    with connected() as client:
        if new_code:
            show(client.post(f"/v1/consents/{consent}/receipt"), as_json=as_json)
            return
        print(client.request("GET", f"/v1/consents/{consent}/receipt", headers={"Accept": "*/*"}).text)


def _act(consent: str, verb: str, body: dict[str, Any], *, as_json: bool) -> None:
    with connected() as client:
        show(client.post(f"/v1/consents/{consent}/{verb}", body), as_json=as_json)


def _line(what: str) -> str:
    line = sys.stdin.readline().strip()
    if not line:
        raise typer.BadParameter(f"Give the {what} on stdin.")
    return line
