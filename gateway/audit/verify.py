"""Verify the access log of an exchange: one file, to be read in one sitting. It needs Python 3.11 and `cryptography`, nothing else.

EXCHANGE_TOKEN=... python verify.py https://exchange.example --key contract.md --state seen.json
python verify.py bundle.zip --key 'exchange.example/audit+8a3f...'     # offline; every contract and consent receipt names the key
Formats: C2SP tlog-tiles, tlog-checkpoint, signed-note, tlog-cosignature, tlog-policy; RFC 6962 hashing. A leaf is canonical JSON
`{at, commitment, kind, v}`, commitment = SHA-256(salt || canonical entry). Without tiles each entry brings its own inclusion proof.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from argparse import ArgumentParser, Namespace
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TILE, WINDOW, BACK, STOPPING = 256, 20_000, timedelta(seconds=2), timedelta(seconds=60)
time, decode = datetime.fromisoformat, json.JSONDecoder().raw_decode
canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode  # RFC 8785, for what entries are made of


class Broken(Exception):
    """What does not hold: a rule, in words, and where it can be said the entry by index and leaf hash, in hex."""


def key_in(given: str) -> str:
    text = Path(given).read_text() if Path(given).is_file() else given
    if (found := re.search(r"[^\s+`'\"]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]{43,}=*", text)) is None:
        raise ValueError("--key names no verifier key")
    return found.group()


def signed(vkey: str, body: bytes, signatures: Sequence[tuple[str, bytes]]) -> bool:
    """True if one of a note's signatures is by this verifier key, `name+id+base64(type || public key)`; type 4 is for cosignatures."""
    name, key_id, packed = vkey.split("+", 2)
    kind, public = (data := b64decode(packed))[0], Ed25519PublicKey.from_public_bytes(data[1:])
    if sha256(name.encode() + b"\n" + data).hexdigest()[:8] != key_id or kind not in {1, 4}:
        raise ValueError(f"{vkey} is no verifier key")
    found = [data[4:] for by, data in signatures if by == name and data[:4].hex() == key_id]
    for data in found:
        said = body if kind == 1 else b"cosignature/v1\ntime %d\n%b" % (int.from_bytes(data[:8]), body)
        try:
            public.verify(data if kind == 1 else data[8:], said)
        except InvalidSignature:
            raise Broken("signature", f"the signature of {name} on the checkpoint is forged") from None
    return bool(found)


def checkpoint(note: str, log: str, policy: str = "") -> tuple[int, bytes, list[str]]:
    """Size and root of a checkpoint that the key `log` has signed, and which witnesses and groups of a tlog-policy stand behind it."""
    body, _, tail = note.partition("\n\n")
    origin, size, root = body.split("\n")[:3]
    said, signatures = body.encode() + b"\n", [(line.split(" ")[1], b64decode(line.split(" ")[2])) for line in tail.splitlines()]
    if origin != log.partition("+")[0] or not signed(log, said, signatures):
        raise Broken("signature", f"the checkpoint of {origin} is not signed by the key {log}")
    met = ["none"]
    for kind, name, *more in (line.split() for line in policy.splitlines() if line.strip() and not line.startswith("#")):
        enough = {"any": 1, "all": len(more) - 1}.get(more[0]) or int(more[0]) if kind == "group" else 0
        if (kind == "witness" and signed(more[0], said, signatures)) or (enough and len({*met} & {*more[1:]}) >= enough):
            met.append(name)
        elif kind == "quorum" and name not in met:
            raise Broken("quorum", f"the witnesses' quorum is not met; cosigned by: {', '.join(met[1:]) or 'none'}")
    return int(size), b64decode(root, validate=True), met[1:]


def root_of(*levels: Sequence[bytes]) -> bytes:
    """The root over hashes (RFC 6962): pairs, and who has no neighbour goes up alone; of tiles, from the last of the lowest level up."""
    row: Sequence[bytes] = []
    for level in levels:
        row = [*level, *row]
        while len(row) > 1:
            row = [sha256(b"\1" + row[at] + row[at + 1]).digest() if at + 1 < len(row) else row[at] for at in range(0, len(row), 2)]
    return row[0]


def root_by_proof(place: int, size: int, hashed: bytes, proof: Sequence[bytes]) -> bytes | None:
    """The root that an inclusion proof leads to (RFC 9162 section 2.1.3.2); None if it fits no tree of this size."""
    last = size - 1
    for step in proof:
        hashed = sha256(b"\1" + (step + hashed if place & 1 or place == last else hashed + step)).digest()
        while place == last and place and not place & 1:
            place, last = place >> 1, last >> 1
        place, last = place >> 1, last >> 1
    return hashed if place == last == 0 else None


def commit(salt: str, opened: bytes) -> str:
    return urlsafe_b64encode(sha256(urlsafe_b64decode(salt + "=") + opened).digest())[:-1].decode()


def leaf_of(item: dict[str, Any], raw: bytes) -> bytes:  # none if the positions shown are not those that it commits to
    said, opening = item["entry"], item.get("opening")
    positions = f'{{"grant":{opening["grant"]},"last":{opening["last"]}}}' if opening else ""  # canonical but for quotes and spaces
    if opening and commit(opening["salt"], positions.replace("'", '"').replace(" ", "").encode()) != said["ranges"]:
        return b""
    return f'{{"at":"{said["at"]}","commitment":"{commit(item["salt"], raw)}","kind":"{said["kind"]}","v":{said["v"]}}}'.encode()


def rules(known: dict[str, Any], said: dict[str, Any], *, grants: bool) -> Iterator[tuple[str, str]]:  # noqa: C901 - a list
    """The rules that this entry breaks, by what is known of those before. What may stand in hidden entries is believed."""
    kind, action, detail, revision = said["kind"], said["action"], said.get("detail", {}), said.get("revision", "")
    about, contract, hidden = f"{said.get('dataset')} {said.get('contract')}", said.get("contract", ""), known["hidden"]
    if kind == "release":
        decided, stopped = known["allowed"].get(said["decision"]), known["stopped"].get(contract, [0, ""])
        if decided != about and not (decided is None and hidden):
            yield "decision", f"no decision before it allows it: {said['decision']}"
        if grants and said["change"] < known["barrier"]:
            yield "barrier", f"it carries change {said['change']}, after the barrier of change {known['barrier']} has passed"
        # A replica that does not know yet carries an older change; a barrier ends that within seconds.
        late = stopped and (said["change"] >= stopped[0] or time(said["at"]) > time(stopped[1]) + STOPPING)
        if grants and contract and late and not (hidden and stopped == [0, ""]):
            yield "contract", f"{contract} was not active"
    elif kind == "decision" and detail.get("answer") == "allow":
        if revision not in known["active"] and not hidden:
            yield "policy", f"it allows by {revision}, which was never made active"
        known["allowed"][said["decision"]] = about
    elif kind == "barrier_passed":
        known["barrier"] = max(known["barrier"], said["change"])
    elif kind == "contract" and action in {"activated", "resumed", "suspended", "ended"}:
        stops = known["stopped"].get(contract) or [said["change"], said["at"]]
        known["stopped"][contract] = [] if action in {"activated", "resumed"} else stops
    elif kind == "policy" and action in {"propose", "approve"}:
        known["persons"].setdefault(detail.get("digest", revision), {})[action] = said["actor"]
    elif kind == "policy" and action == "activate":
        known["active"].append(revision)
        agreed = known["persons"].get(detail.get("digest", revision), {})
        if detail.get("state") != "installed" and not hidden and len({*agreed.values()}) < 2:
            yield "two_persons", f"{revision} was made active, and no two persons have proposed and approved it"


class Source:
    """Where log and entries are read: a URL, a folder or a zip."""

    def __init__(self, place: str) -> None:
        self.url = place.rstrip("/") if place.startswith(("http://", "https://")) else None
        self.root = zipfile.Path(place) if Path(place).is_file() else Path(place)

    def get(self, path: str) -> bytes:
        token = os.environ.get("EXCHANGE_TOKEN") if path.startswith("/v1/") else None
        asked = Request(f"{self.url}{path}", headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310 - the auditor's URL
        with urlopen(asked, timeout=60) as answer:  # noqa: S310
            return bytes(answer.read())

    def read(self, *names: str) -> bytes:
        for name in names:
            with suppress(KeyError, OSError):
                return self.get(f"/audit/{name}") if self.url else (self.root / name).read_bytes()
        raise Broken("missing", f"{names[0]} cannot be read")

    def tile(self, level: int | str, number: int, width: int) -> bytes:
        path = re.sub(r"(\d{3})(?=\d)", r"x\1/", f"{number:0{-(-len(str(number)) // 3) * 3}d}")
        return self.read(*[f"tile/{level}/{path}.p/{width}"] * (width < TILE), f"tile/{level}/{path}")

    def entries(self, newest: str) -> Iterator[tuple[dict[str, Any], bytes]]:
        """What is told beside each entry, and its canonical bytes, with which a line ends; of a URL those from `newest` on."""
        if not self.url:
            with (self.root / "entries.jsonl").open("rb") as lines:
                yield from ((decode(line.decode())[0], line[line.find(b',"entry":') + 9 : -2]) for line in lines)
        page, search = {"next": self.url}, newest and f"&since={time(newest) - 2 * BACK:%Y-%m-%dT%H:%M:%SZ}"
        while page["next"] is not None:
            page = json.loads(self.get(f"/v1/audit/entries?limit=500{search}" + f"&after={page['next']}" * ("items" in page)))
            yield from ((item, canonical(item["entry"]).encode()) for item in page["items"] if item["index"] is not None)


class Audit:
    """One pass over the log, from where the last one has ended. `broken` is what does not hold."""

    def __init__(self, source: Source, asked: Namespace) -> None:
        self.source, self.state, self.asked = source, Path(asked.state or os.devnull), asked
        self.key, self.broken, self.found = key_in(asked.key), list[Broken](), dict[str, Any]()
        state = json.loads((self.state.read_text() if self.state.exists() else "") or '{"seen": ""}')
        self.seen: str = state["seen"]
        self.roots = [checkpoint(note, self.key)[:2] for note in [self.seen, *(Path(it).read_text() for it in asked.seen)] if note]
        kept, old = map(json.loads, Path(asked.receipts or os.devnull).read_text().splitlines()), datetime.now(UTC) - timedelta(minutes=1)
        self.receipts = {b64decode(it["audit_entry"].removeprefix("sha-256=").strip(":")): it for it in kept if time(it["at"]) < old}
        state = {} if asked.all or asked.receipts else state
        self.size, self.levels = state.get("size", 0), [[*map(bytes.fromhex, level)] for level in state.get("levels", [[]])]
        nothing = {"newest": "", "opened": 0, "hidden": 0, "barrier": 0, "allowed": {}, "stopped": {}, "persons": {}, "active": []}
        self.known: dict[str, Any] = nothing | state.get("known", {})
        self.entries = iter(()) if asked.public else source.entries(self.known["newest"])
        self.ahead = dict[int, tuple[dict[str, Any], bytes]]()

    def run(self) -> None:
        note = self.source.read("checkpoint").decode()
        size, root, by = checkpoint(note, self.key, Path(self.asked.policy or os.devnull).read_text())
        self.found |= {"origin": self.key.partition("+")[0], "size": size, "root": root.hex(), "witnesses": by}
        if self.roots and size < (before := max(self.roots)[0]):
            raise Broken("went_back", f"the log shows {size} entries and had {before}: an old checkpoint, or its tail was cut")
        if not self.source.url and not (self.source.root / "tile").exists():
            return self.apart(size, root)
        self.roots.append((size, root))
        while self.size < size:
            self.tile(self.size // TILE, min(TILE, size - self.size // TILE * TILE), size)
            if self.size % (TILE * 400) == 0:
                print(f"{self.size:,} of {size:,} entries", file=sys.stderr)
                self.save(self.seen)
        self.broken += [Broken("receipt", f"it is not in the log: {line}", None, hashed.hex()) for hashed, line in self.receipts.items()]
        return self.save(note)

    def tile(self, number: int, width: int, whole: int) -> None:
        """The leaves of one tile: against the tiles of hashes, the roots that are known, and each against its entry."""
        data, at, first, leaves = self.source.tile("entries", number, width), 0, number * TILE, list[bytes]()
        while len(leaves) < width:
            leaves.append(data[at + 2 : (at := at + 2 + int.from_bytes(data[at : at + 2]))])
        hashes = [sha256(b"\0" + leaf).digest() for leaf in leaves]
        self.compare(0, number, hashes)
        for size, root in self.roots:
            if first < size <= first + width and root_of(hashes[: size - first], *self.levels[1:]) != root:
                rule = "root" if (size, root) == self.roots[-1] else "fork"
                raise Broken(rule, f"the leaves do not lead to the root that was signed for size {size}")
        for index in range(self.size, first + width):
            for rule, text in self.leaf(index, leaves[index - first]):
                self.broken.append(Broken(rule, text, index, hashes[index - first].hex()))
            self.receipts.pop(hashes[index - first], None)
        self.size, self.levels[0] = first + width, hashes
        for level, done in enumerate(self.levels):
            if level and done and (len(done) == TILE or self.size == whole):
                self.compare(level, (self.size >> 8 * level) - 1 >> 8, done)
            if len(done) == TILE:
                self.levels += [[]] * (level + 1 == len(self.levels))
                self.levels[level : level + 2] = [[], [*self.levels[level + 1], root_of(done)]]

    def compare(self, level: int, number: int, hashes: Sequence[bytes]) -> None:
        tile = self.source.tile(level, number, len(hashes))
        for wrong in (place for place, hashed in enumerate(hashes) if tile[place * 32 : place * 32 + 32] != hashed):
            raise Broken("tile", f"tile {level}/{number} has another hash", number * TILE + wrong << 8 * level, hashes[wrong].hex())

    def leaf(self, index: int, leaf: bytes) -> Iterator[tuple[str, str]]:
        while index not in self.ahead and len(self.ahead) < WINDOW and (found := next(self.entries, None)) is not None:
            if found[0]["index"] >= index:
                self.ahead[found[0]["index"]] = found
        item, raw = self.ahead.pop(index, ({}, leaf))
        said, newest = item["entry"] if item else json.loads(leaf), self.known["newest"]
        if said["at"] < newest and time(said["at"]) < time(newest) - BACK:
            yield "time", f"it is of {said['at']}, after an entry of {newest}"
        self.known["newest"] = max(newest, said["at"])
        self.known["opened" if item else "hidden"] += 1
        if item and leaf_of(item, raw) != leaf:
            yield "commitment", "the entry that is shown is not the one that its leaf commits to"
        elif item:
            yield from rules(self.known, said, grants="opening" not in item or bool(item["opening"]["grant"]))
        elif not self.asked.public and time(said["at"]) > datetime.now(UTC) - timedelta(days=self.asked.retention):
            yield "hidden", "its entry is not shown"

    def apart(self, size: int, root: bytes) -> None:
        for item, raw in self.entries:
            hashed, proof = sha256(b"\0" + leaf_of(item, raw)).digest(), [*map(b64decode, item["proof"])]
            if root_by_proof(item["index"], size, hashed, proof) != root:
                self.broken.append(Broken("proof", "this entry is not in the log of the checkpoint", item["index"], hashed.hex()))
            self.known["opened"] += 1

    def save(self, seen: str) -> None:
        if self.asked.state and not self.broken:
            kept = {"seen": seen, "size": self.size, "levels": [[*map(bytes.hex, level)] for level in self.levels], "known": self.known}
            Path(f"{self.state}.new").write_text(json.dumps(kept))
            Path(f"{self.state}.new").replace(self.state)


def main(words: Sequence[str] | None = None, source: Source | None = None, show: Callable[[str], object] = print) -> int:
    parser = ArgumentParser(epilog="EXCHANGE_TOKEN: an auditor's access token. Exit codes: 0 all holds, 1 something does not, 2 wrong use.")
    parser.add_argument("source", help="URL of the exchange; or a folder or zip with checkpoint, tile/... and entries.jsonl")
    parser.add_argument("--key", required=True, help="the log's verifier key, or a file in which it stands, as in a contract's text")
    parser.add_argument("--policy", help="a file that says which witnesses must have cosigned (tlog-policy)")
    parser.add_argument("--state", help="a file of yours with what was seen last; the next run goes on from there")
    parser.add_argument("--seen", action="append", default=[], help="a file with a checkpoint that somebody else was shown")
    parser.add_argument("--receipts", help="a file of receipts: each older than a minute must be in the log")
    parser.add_argument("--retention", type=float, default=36500, metavar="DAYS", help="entries older than this may be gone")
    parser.add_argument("--public", action="store_true", help="the log alone, without entries")
    parser.add_argument("--all", action="store_true", help="from the first leaf on, whatever the state says")
    asked = parser.parse_args(words)
    try:
        audit = Audit(source or Source(asked.source), asked)
    except (Broken, ValueError, OSError, zipfile.BadZipFile) as error:
        parser.error(str(error))
    try:
        audit.run()
    except (Broken, KeyError, TypeError, ValueError, OSError, IndexError) as error:
        audit.broken.append(error if isinstance(error, Broken) else Broken("unreadable", f"{type(error).__name__}: {error}"))
    broken = [dict(zip(("rule", "text", "index", "leaf_hash"), it.args, strict=False)) for it in audit.broken]
    found = {"ok": not broken} | audit.found | {name: audit.known[name] for name in ("opened", "hidden")} | {"broken": broken}
    show(json.dumps(found, indent=1))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
