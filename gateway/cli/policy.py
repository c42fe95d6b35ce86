"""`exchange policy`: rule sheets as tables, and revisions from draft to active."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from connectors.client import Client
from gateway.cli.connection import AsJson, connected, everything, fail, show, show_list

noun = typer.Typer(name="policy", help="Policy: rule sheets, and revisions that two persons agree on.", no_args_is_help=True)
REVISIONS = "/v1/policies/revisions"
Id = Annotated[str, typer.Argument(help="The revision, pol_...")]
Language = Annotated[Literal["en", "fr"], typer.Option(help="In English or in French.")]
LOOK_S = 0.5


@noun.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="draft, proposed, approved, active or retired.")] = None, as_json: AsJson = False
) -> None:
    """List the revisions.

    Example: exchange policy list
    """
    with connected() as client:
        columns = ("id", "state", "title", "proposed_by", "approved_by", "activated_at")
        show_list(everything(client, REVISIONS, state=state), columns, as_json=as_json)


@noun.command("show")
def show_(
    slug: Annotated[str, typer.Argument(help="The dataset whose rule sheet is shown, or a revision, pol_...")],
    language: Language = "en",
    revision: Annotated[str | None, typer.Option(help="Of this revision; else of the active one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a dataset's rule sheet as a table: for what, for whom, which fields how, on which ground. Or a revision.

    Example: exchange policy show port-credit-footfall --language fr
    """
    from gateway.access.sheet_table import as_text, table

    with connected() as client:
        if slug.startswith("pol_"):
            show(client.get(f"{REVISIONS}/{slug}"), as_json=as_json)
            return
        sheet = client.get(f"{REVISIONS}/{revision or _active(client)}/files/rules/{slug}.json")
        print(json.dumps(sheet, ensure_ascii=False) if as_json else as_text(table(sheet, language)))


@noun.command()
def todo(language: Language = "en", as_json: AsJson = False) -> None:
    """List what waits for the privacy officer: revisions, datasets without rules, fields that no rule names.

    Example: exchange policy todo
    """
    with connected() as client:
        items = everything(client, "/v1/policies/todos")
        print(json.dumps(items, ensure_ascii=False) if as_json else "\n".join(item["title"][language] for item in items))


@noun.command()
def draft(
    folder: Annotated[
        Path | None, typer.Argument(exists=True, file_okay=False, help="A folder of policies; without, a copy to edit.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    as_json: AsJson = False,
) -> None:
    """Begin a draft: a copy of the active revision, made equal to the folder if one is named.

    Example: exchange policy draft ./policies --title "No advertising on footfall"
    """
    with connected() as client:
        made = client.post(REVISIONS, {"title": title} if title else {})
        if folder is not None:
            made = _make_equal(client, made, folder)
        show(made, as_json=as_json)


@noun.command()
def get(revision: Id, path: Annotated[str, typer.Argument(help="For example rules/port-credit-footfall.json.")]) -> None:
    """Print a file of a revision.

    Example: exchange policy get pol_01j... rules/port-credit-footfall.json
    """
    with connected() as client:
        sys.stdout.write(client.request("GET", f"{REVISIONS}/{revision}/files/{path}", headers={"Accept": "*/*"}).text)


@noun.command()
def put(
    revision: Id,
    path: Annotated[str, typer.Argument(help="For example rules/port-credit-footfall.json.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="What to write there.")],
    as_json: AsJson = False,
) -> None:
    """Write a file of a draft.

    Example: exchange policy put pol_01j... rules/port-credit-footfall.json footfall.json
    """
    with connected() as client:
        show(_put(client, revision, path, file.read_bytes()), as_json=as_json)


@noun.command()
def propose(revision: Id, as_json: AsJson = False) -> None:
    """Have a draft vetted, and propose it. What is found is told with file, line and what to do.

    Example: exchange policy propose pol_01j...
    """
    with connected(as_person=True) as client:
        show(client.post(f"{REVISIONS}/{revision}/propose"), as_json=as_json)


@noun.command()
def preview(
    revision: Id, days: Annotated[int, typer.Option(min=1, max=365, help="Decisions of so many days.")] = 30, as_json: AsJson = False
) -> None:
    """See who gains and who loses by a revision, before it is active. Waits until it is worked out.

    Example: exchange policy preview pol_01j... --days 7
    """
    with connected() as client:
        made = client.post(f"{REVISIONS}/{revision}/previews", {"days": days})
        while made["state"] == "running":
            time.sleep(LOOK_S)
            made = client.get(f"{REVISIONS}/{revision}/previews/{made['number']}")
            print(f"\r{made['done']} of {made['total']}", end="", file=sys.stderr)
        print(file=sys.stderr)
        if made["state"] != "done":
            fail(f"The preview failed: {made['problem']}")
        print(json.dumps(made, ensure_ascii=False) if as_json else _told(made))


@noun.command()
def approve(
    revision: Id, preview: Annotated[int, typer.Option(help="The number of the preview that you have seen.")], as_json: AsJson = False
) -> None:
    """Agree, as the second person, on what a preview has shown.

    Example: exchange policy approve pol_01j... --preview 1
    """
    with connected(as_person=True) as client:
        show(client.post(f"{REVISIONS}/{revision}/approve", {"preview": preview}), as_json=as_json)


@noun.command()
def activate(revision: Id, as_json: AsJson = False) -> None:
    """Make an approved revision active, or go back to one that was. When it returns nothing that it forbids can leave any more.

    Example: exchange policy activate pol_01j...
    """
    with connected(as_person=True) as client:
        show(client.post(f"{REVISIONS}/{revision}/activate"), as_json=as_json)


@noun.command()
def retire(revision: Id, as_json: AsJson = False) -> None:
    """Put a revision away that is not to become active.

    Example: exchange policy retire pol_01j...
    """
    with connected() as client:
        show(client.post(f"{REVISIONS}/{revision}/retire"), as_json=as_json)


@noun.command()
def bundle(revision: Id, file: Annotated[Path, typer.Argument(help="Where to write it.")]) -> None:
    """Fetch the bundle of a revision: its SHA-256 is the revision's digest, and `opa test --bundle` takes it.

    Example: exchange policy bundle pol_01j... policy.tar.gz
    """
    with connected() as client:
        file.write_bytes(client.request("GET", f"{REVISIONS}/{revision}/bundle", headers={"Accept": "*/*"}).content)


@noun.command()
def why(
    decision: Annotated[str | None, typer.Argument(help="A decision, dec_...; without, ask by the options.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset's slug.")] = None,
    purpose: Annotated[str | None, typer.Option(help="One purpose.")] = None,
    contract: Annotated[str | None, typer.Option(help="A contract, con_...")] = None,
    client_id: Annotated[str | None, typer.Option("--client", help="A client of your organization, cli_...")] = None,
    language: Language = "en",
    as_json: AsJson = False,
) -> None:
    """Say why a decision came out so, or what one would be, and what would make it yes.

    Example: exchange policy why --dataset port-credit-footfall --purpose advertising
    """
    asked = {"dataset": dataset, "purpose": purpose, "contract": contract, "client": client_id}
    with connected() as client:
        if decision is not None:
            found = client.get(f"/v1/decisions/{decision}")
        else:
            found = client.post("/v1/decisions", {name: value for name, value in asked.items() if value is not None})
        print(json.dumps(found, ensure_ascii=False) if as_json else _explained(found, language))


def _active(client: Client) -> str:
    found = everything(client, REVISIONS, state="active")
    if not found:
        fail("No revision is active.")
    return str(found[0]["id"])


def _put(client: Client, revision: str, path: str, content: bytes) -> Any:
    headers = {"Content-Type": "application/json" if path.endswith(".json") else "text/plain", "If-Match": "*"}
    return client.request("PUT", f"{REVISIONS}/{revision}/files/{path}", body=content, headers=headers).json()


def _make_equal(client: Client, made: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The draft with the files of this folder, and no other."""
    paths = [*folder.rglob("*.rego"), *(folder / "rules").glob("*.json")]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}
    for path in sorted(set(made["files"]) - set(files)):
        client.request("DELETE", f"{REVISIONS}/{made['id']}/files/{path}", headers={"If-Match": "*"})
    for path, content in files.items():
        there = (
            client.request("GET", f"{REVISIONS}/{made['id']}/files/{path}", headers={"Accept": "*/*"}) if path in made["files"] else None
        )
        if there is None or there.content != content:
            _put(client, made["id"], path, content)
    found: dict[str, Any] = client.get(f"{REVISIONS}/{made['id']}")
    return found


def _told(made: dict[str, Any]) -> str:
    contracts = made["result"]["contracts"]
    lines = [f"Preview {made['number']}: {len(contracts['changed'])} of {contracts['in_force']} contracts would change."]
    for each in contracts["changed"]:
        events = each["events"]
        lines.append(f"  {each['consumer']['name']} {each['change']}: {each['dataset']} for {each['purpose']} ({each['contract']})")
        lines += [f"    {reason['title']['en']}" for reason in each["after"]["reasons"]]
        lines += [f"    {name}: {', '.join(each['fields'][name])}" for name in ("gained", "lost") if each["fields"][name]]
        counted = f"{events['withheld']} would be withheld, {events['newly_delivered']} newly delivered"
        lines.append(f"    events (estimate): {counted}{'; the log was not read to its end' if 'incomplete' in events else ''}")
    decisions = made["result"]["decisions"]
    lines.append(
        f"{decisions['otherwise']} of {decisions['replayed']} decisions of the last {decisions['days']} days would come out otherwise."
    )
    return "\n".join([*lines, f"To agree on it: exchange policy approve {made['revision']} --preview {made['number']}"])


def _explained(found: dict[str, Any], language: str) -> str:
    french = language == "fr"
    lines = [("Oui." if french else "Yes.") if found["allow"] else ("Non." if french else "No.")]
    for reason in found["reasons"]:
        rule = reason["rule"]
        lines += [f"  {reason['title'][language]}", f"    {rule['title']} ({rule['file']}:{rule['line']}; {rule['legal_ground']})"]
    if found["why"]["mattered"]:
        facts = ", ".join(each["title"][language] for each in found["why"]["mattered"])
        lines.append(f"{'Ce qui a compté' if french else 'What mattered'}: {facts}")
    if found["why"]["would_allow"]:
        lines.append("Ce serait oui :" if french else "It would be yes:")
        lines += [f"  {each[language]}" for each in found["why"]["would_allow"]]
    return "\n".join(lines)
