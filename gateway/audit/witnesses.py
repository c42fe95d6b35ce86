"""Asking witnesses to cosign a checkpoint (C2SP tlog-witness): each sees that the log continues what it saw before.

They are asked at once and waited for a moment; one that does not answer is asked less often. Their absence never holds up the log.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import httpx2
import structlog
from prometheus_client import Counter, Gauge

from gateway.audit.note import Checkpoint, NoteRefused, cosignatures
from gateway.audit.proofs import prove_consistency, shown
from gateway.audit.tiles import Tiles
from gateway.audit.witness_policy import Policy, Witness
from gateway.errors import ExchangeError

log = structlog.get_logger(__name__)

PATIENCE_S = 0.8
"""How long a checkpoint waits for its witnesses."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
"""After which a witness that did not cosign is asked again: twice as long each time."""
RENEW_S = 2.0
"""How often those who are missing on a checkpoint that stays are asked."""
SIZE = "text/x.tlog.size"
answers = Counter("exchange_audit_witness_answers_total", "Answers of witnesses: cosigned, refused or away.", ["witness", "outcome"])
quorum_missing = Gauge("exchange_audit_quorum_missing", "1 if the last checkpoint of this replica lacks the quorum of witnesses.")


@dataclass(slots=True)
class _Standing:
    """What is known of a witness: the size that it has seen, and when it is asked again."""

    seen: int = 0
    due: float = 0.0
    pause_s: float = FIRST_PAUSE_S


class Witnesses:
    """Those of the policy that have a URL. `stop` it at the end. One thread uses it."""

    def __init__(self, policy: Policy, tiles: Tiles) -> None:
        self.policy = policy
        self._tiles = tiles
        self._standings = {name: _Standing() for name, witness in policy.witnesses.items() if witness.url}
        self._asking = ThreadPoolExecutor(max_workers=max(1, len(self._standings)), thread_name_prefix="witness")
        self._http = httpx2.Client(timeout=PATIENCE_S, trust_env=False, follow_redirects=False)
        self._renewed = 0.0

    def stop(self) -> None:
        self._asking.shutdown(wait=True, cancel_futures=True)
        self._http.close()

    def cosigned(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with the cosignatures of those who are due and answer in time."""
        self._renewed = time.monotonic()
        there = self.policy.cosigners(checkpoint)
        due = [name for name, standing in self._standings.items() if name not in there and standing.due <= self._renewed]
        asked = {name: self._asking.submit(self._ask, self.policy.witnesses[name], checkpoint) for name in due}
        wait(asked.values(), timeout=PATIENCE_S)
        lines = b"".join(each.result() for each in asked.values() if each.done())
        cosigned = checkpoint.with_lines(lines)
        quorum_missing.set(0 if self.policy.is_met(self.policy.cosigners(cosigned)) else 1)
        return cosigned

    def may_renew(self, checkpoint: Checkpoint) -> bool:
        """True if it is time to ask those who are missing on a checkpoint that is published."""
        return time.monotonic() - self._renewed >= RENEW_S and bool(self._standings.keys() - self.policy.cosigners(checkpoint))

    def _ask(self, witness: Witness, checkpoint: Checkpoint) -> bytes:
        """The witness's line; nothing if it does not cosign, for whatever reason."""
        standing = self._standings[witness.name]
        try:
            lines = self._cosignature(witness, standing, checkpoint)
            outcome = "cosigned" if lines else "refused"
        except (httpx2.HTTPError, httpx2.InvalidURL, NoteRefused, ExchangeError) as error:
            log.warning("witness_away", witness=witness.name, error=type(error).__name__)
            lines, outcome = b"", "away"
        answers.labels(witness.name, outcome).inc()
        if lines:
            standing.due, standing.pause_s = 0.0, FIRST_PAUSE_S
        else:
            standing.due, standing.pause_s = time.monotonic() + standing.pause_s, min(LONGEST_PAUSE_S, standing.pause_s * 2)
        return lines

    def _cosignature(self, witness: Witness, standing: _Standing, checkpoint: Checkpoint) -> bytes:
        answer = self._post(witness, standing.seen, checkpoint)
        if answer.status_code == httpx2.codes.CONFLICT and answer.headers.get("content-type", "").startswith(SIZE):
            seen = answer.text.strip()
            if not seen.isascii() or not seen.isdigit() or int(seen) > checkpoint.size:
                # It has seen more of this log than there is: somebody signed a history that is not here.
                log.error("witness_has_seen_more", witness=witness.name, seen=seen[:20], size=checkpoint.size)
                return b""
            standing.seen = int(seen)
            answer = self._post(witness, standing.seen, checkpoint)
        if answer.status_code != httpx2.codes.OK:
            log.error("witness_refused", witness=witness.name, status=answer.status_code, size=checkpoint.size)
            return b""
        lines = cosignatures(checkpoint.text, answer.content, witness.verifier)
        if lines:
            standing.seen = checkpoint.size
        return lines

    def _post(self, witness: Witness, old: int, checkpoint: Checkpoint) -> httpx2.Response:
        proof = shown(prove_consistency(self._tiles, checkpoint, min(old, checkpoint.size), checkpoint.size))
        body = _lines([f"old {old}", *proof, ""]) + checkpoint.note
        return self._http.post(f"{witness.url}/add-checkpoint", content=body)


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
