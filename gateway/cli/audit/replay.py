"""`exchange audit replay`: decide again, with a stock OPA, what was decided, and hold it against what the log says."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer

from connectors.client import Client
from gateway.cli.connection import AsJson, connected, everything, fail, show

QUERY = "data.exchange.main.decision"
OUTWARD = ("http.send", "opa.runtime", "net.lookup_ip_addr")
"""Builtins by which a policy could reach out of the auditor's machine, or look around on it: a replay runs without them."""
LONGEST_S = 30.0
MOST_BYTES = 16 * 1024 * 1024


def replay(
    decision: Annotated[str, typer.Argument(help="The decision, dec_..., as an entry of the log names it.")],
    opa: Annotated[str, typer.Option(help="The program `opa`: a name on the PATH, or a path.")] = "opa",
    as_json: AsJson = False,
) -> None:
    """Decide again by a stock OPA, on the recorded facts and policy, and compare the answer. Facts and policy are held against the log.

    Example: exchange audit replay dec_01j... --opa ./opa
    """
    program = shutil.which(opa)
    if program is None:
        raise typer.BadParameter(f"There is no program {opa}: https://www.openpolicyagent.org/docs has it.")
    with connected() as client:
        recorded = client.get(f"/v1/decisions/{decision}")
        archive = client.request("GET", f"/v1/policies/revisions/{recorded['revision']}/bundle", headers={"Accept": "*/*"}).content
        files = unpacked(archive)
        doubts = [*_doubts_of_decision(client, recorded), *_doubts_of_policy(client, recorded["revision"], archive)]
    answer = evaluate(program, files, recorded["facts"])
    kept = {name: in_order(recorded[name]) for name in answer}
    doubts += [f"{name}: OPA says {answer[name]}, recorded is {kept[name]}" for name in answer if answer[name] != kept[name]]
    if doubts:
        fail(*doubts)
    show({"decision": decision, "revision": recorded["revision"], "allow": answer["allow"], "replayed": "the same answer"}, as_json=as_json)


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The files of a bundle. Raises `ValueError` for what is none, or too large."""
    with gzip.GzipFile(fileobj=io.BytesIO(archive)) as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError("the bundle is too large")
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as files:
        found = {member.name: held.read() for member in files if (held := files.extractfile(member)) is not None}
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in found):
        raise ValueError("the bundle has a file outside itself")
    return found


def evaluate(opa: str, files: dict[str, bytes], facts: dict[str, Any]) -> dict[str, Any]:
    """What OPA answers: {allow, reasons, obligations}, lists in order. Raises `typer.Exit` where it does not."""
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        for name, content in files.items():
            if name.endswith((".rego", "data.json")) and not name.endswith("_test.rego"):
                path = Path(folder, "policy", name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        Path(folder, "facts.json").write_text(json.dumps(facts))
        Path(folder, "capabilities.json").write_bytes(_without_outward(opa))
        asked = ("eval", "--data", "policy", "--input", "facts.json", "--capabilities", "capabilities.json")
        words = [opa, *asked, "--strict-builtin-errors", "--format", "raw", QUERY]
        ran = subprocess.run(words, cwd=folder, env={}, capture_output=True, check=False, timeout=LONGEST_S)
    try:
        answer = json.loads(ran.stdout)
        obligations = in_order(answer["obligations"]) if answer["allow"] else []
        return {"allow": answer["allow"], "reasons": in_order(answer["reasons"]), "obligations": obligations}
    except (ValueError, KeyError, TypeError):
        fail("OPA does not answer.", ran.stderr.decode(errors="replace").strip())
        raise


def _without_outward(opa: str) -> bytes:
    ran = subprocess.run([opa, "capabilities", "--current"], env={}, capture_output=True, check=True, timeout=LONGEST_S)
    capabilities = json.loads(ran.stdout)
    capabilities["builtins"] = [builtin for builtin in capabilities["builtins"] if builtin["name"] not in OUTWARD]
    return json.dumps(capabilities).encode()


def _doubts_of_decision(client: Client, recorded: dict[str, Any]) -> list[str]:
    """What the decision's audit entry says otherwise than the decision that is shown."""
    entries = [item["entry"] for item in everything(client, "/v1/audit/entries", kind="decision", decision=recorded["id"], limit=500)]
    made = [entry for entry in entries if entry["action"] != "denied_again"]
    if len(made) != 1:
        return [f"the log has {len(made)} entries that made {recorded['id']}"]
    told, answer = made[0]["detail"], {name: recorded[name] for name in ("allow", "reasons", "obligations")}
    facts = json.dumps(recorded["facts"], ensure_ascii=False, separators=(",", ":"))
    shown = {
        "answer": "allow" if recorded["allow"] else "deny",
        "facts_digest": hashlib.sha256(facts.encode()).hexdigest(),
        "answer_digest": hashlib.sha256(_canonical(answer)).hexdigest(),
    }
    return [f"{name}: the log says {told.get(name)}, shown is {value}" for name, value in shown.items() if told.get(name) != value]


def _doubts_of_policy(client: Client, revision: str, archive: bytes) -> list[str]:
    """That the bundle is not the one that the log says was made active."""
    entries = [item["entry"] for item in everything(client, "/v1/audit/entries", kind="policy", limit=500)]
    made = {entry["detail"].get("digest") for entry in entries if entry.get("revision") == revision and entry["action"] == "activate"}
    digest = hashlib.sha256(archive).hexdigest()
    return [] if digest in made else [f"policy: the log has no activation of {revision} with a bundle of digest {digest}"]


def in_order(value: Any) -> Any:
    """Lists of documents in an order that does not depend on the engine."""
    return sorted(value, key=_canonical) if isinstance(value, list) else value


def _canonical(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
