"""Which witnesses there are, and how many of them must have seen a checkpoint: a policy file in the form of C2SP tlog-policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.note import COSIGNATURE, ED25519, Checkpoint, NoteRefused, Verifier
from gateway.errors import SettingsRefused

NONE = "none"


@dataclass(frozen=True, slots=True)
class Witness:
    """`name` is its name in the file; `url` the prefix to which checkpoints go (tlog-witness), empty: it is not asked by us."""

    name: str
    verifier: Verifier
    url: str = ""


@dataclass(slots=True)
class Policy:
    """`groups`: how many of which members a group needs. `quorum` names a witness or group, or none."""

    logs: list[Verifier] = field(default_factory=list)
    witnesses: dict[str, Witness] = field(default_factory=dict)
    groups: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    quorum: str = ""

    def cosigners(self, checkpoint: Checkpoint) -> set[str]:
        """Names of the witnesses whose cosignature the checkpoint has. One that does not verify is none."""
        return {name for name, witness in self.witnesses.items() if _has(checkpoint, witness.verifier)}

    def is_met(self, cosigners: Iterable[str]) -> bool:
        """True if these are a quorum."""
        return self.quorum == NONE or self._witnessed(self.quorum, frozenset(cosigners))

    def _witnessed(self, name: str, cosigners: frozenset[str]) -> bool:
        if name in self.witnesses:
            return name in cosigners
        needed, members = self.groups[name]
        return sum(self._witnessed(member, cosigners) for member in members) >= needed


def read_policy(path: Path, log: Verifier) -> Policy:
    """The policy of this file. Raises `SettingsRefused` if it is none, or names logs and not this one."""
    try:
        text = path.read_text("utf-8", errors="surrogateescape")
    except OSError as error:
        raise SettingsRefused(f"EXCHANGE_AUDIT_WITNESSES: {path} cannot be read ({type(error).__name__}).") from error
    policy = Policy()
    for number, line in enumerate(text.split("\n"), start=1):
        words = [] if line.strip().startswith("#") else line.split()
        try:
            if words:
                _read_line(policy, words)
        except (NoteRefused, ValueError) as error:
            raise SettingsRefused(f"EXCHANGE_AUDIT_WITNESSES: line {number} of {path}: {error}.") from error
    if not policy.quorum:
        raise SettingsRefused(f"EXCHANGE_AUDIT_WITNESSES: {path} says no quorum (C2SP tlog-policy).")
    if policy.logs and log not in policy.logs:
        raise SettingsRefused(f"EXCHANGE_AUDIT_WITNESSES: {path} names logs, and not this one: {log.vkey}")
    return policy


def _read_line(policy: Policy, words: Sequence[str]) -> None:
    match words:
        case ["log", vkey, *url] if len(url) <= 1:
            policy.logs.append(_verifier(vkey, ED25519, policy.logs))
        case ["witness", name, vkey, *url] if len(url) <= 1:
            _require_new(policy, name)
            known = [witness.verifier for witness in policy.witnesses.values()]
            policy.witnesses[name] = Witness(name, _verifier(vkey, COSIGNATURE, known), "".join(url).rstrip("/"))
        case ["group", name, needed, *members] if members:
            _require_new(policy, name)
            count = {"all": len(members), "any": 1}.get(needed) or int(needed)
            taken = {member for _, others in policy.groups.values() for member in others}
            if not 1 <= count <= len(members) or len(set(members)) < len(members) or taken & set(members):
                raise ValueError("a group needs 1 to all of its members, each of which is in no other")
            for member in members:
                _require_known(policy, member)
            policy.groups[name] = (count, tuple(members))
        case ["quorum", name] if not policy.quorum:
            if name != NONE:
                _require_known(policy, name)
            policy.quorum = name
        case _:
            raise ValueError("is no line of a tlog-policy")


def _verifier(vkey: str, kind: int, known: Iterable[Verifier]) -> Verifier:
    verifier = Verifier.parse(vkey)
    if verifier.type != kind:
        raise ValueError("the verifier key is of another type than this line needs")
    if any(verifier.key == other.key for other in known):
        raise ValueError("the key stands there twice")
    return verifier


def _require_new(policy: Policy, name: str) -> None:
    if name == NONE or name in policy.witnesses or name in policy.groups:
        raise ValueError(f"{name} is taken")


def _require_known(policy: Policy, name: str) -> None:
    if name not in policy.witnesses and name not in policy.groups:
        raise ValueError(f"{name} is not defined before")


def _has(checkpoint: Checkpoint, verifier: Verifier) -> bool:
    try:
        return checkpoint.signed_by(verifier)
    except NoteRefused:
        return False
