"""The stream plane of this process: its log, its caches, and what each contract sees."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import anyio.to_thread
import structlog
from anyio import CapacityLimiter
from sqlalchemy.orm import Session

from consent.erasure import ErasedSubjects
from consent.index import ConsentIndex, DoubtView
from gateway.access.decide import Access
from gateway.access.decision import Decision
from gateway.access.facts import Question
from gateway.access.fields import period_ms
from gateway.access.lens import Lens, Refusal, Shape, compile_shape, contract_key, shape_key
from gateway.audit.release import AuditWriter
from gateway.catalog.directory import DatasetView
from gateway.catalog.directory import Directory as Catalog
from gateway.catalog.purposes import purpose
from gateway.changes import Change, Changes
from gateway.contracts.directory import ContractView
from gateway.contracts.directory import Directory as Contracts
from gateway.database import Database
from gateway.errors import ExchangeError
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import Keys
from gateway.settings import Settings
from gateway.streams.blocks import Blocks
from gateway.streams.cursor import Cursors
from gateway.streams.disclosed import Account
from gateway.streams.gate import Gate
from gateway.streams.limits import Bucket, InFlight, OpenStreams, Requests
from gateway.streams.log import EventLog
from gateway.streams.outbound import Outbound
from gateway.streams.reading import Permit
from gateway.streams.sealing import SubjectKeys, opening_of
from gateway.streams.shared import Shared
from gateway.streams.views import Allows, Judgements, Stamp, SubjectSecrets, View

log = structlog.get_logger(__name__)

KEPT_VIEWS = 10_000
DECIDING_AT_ONCE = 10
"""New decisions of streams."""
DECIDING_AFTER_A_TURN = 1
"""The same, just after a change of policy. All streams ask then, at every replica: more would hold up what the change itself waits for."""
FORGOTTEN_S = 5.0
"""Seconds in which the event loop comes to forgetting whoever was erased."""
MEBIBYTE = 1024 * 1024
Obligations = tuple[dict[str, Any], ...]


def _nobody(_sref: str, _appended_ms: int, _now_ms: int) -> bool:
    return False


class Streams:
    """Made once by `create_app`. Its coroutines run on the gateway's event loop; `on_changes` is called from any other thread."""

    def __init__(
        self,
        *,
        settings: Settings,
        keys: Keys,
        keks: KeyEncryptionKeys,
        database: Database,
        changes: Changes,
        event_log: EventLog,
        audit: AuditWriter,
        catalog: Catalog,
        contracts: Contracts,
        access: Access,
        consents: ConsentIndex,
        disclosures: Account,
    ) -> None:
        self.settings = settings
        self.issuer = settings.issuer
        self.database = database
        self.changes = changes
        self.log = event_log
        self.audit = audit
        self.catalog = catalog
        self.contracts = contracts
        self.access = access
        self.consents = consents
        self.disclosures = disclosures
        self.keys = keys
        self.cursors = Cursors(keys.secret("cursor"))
        self.blocks = Blocks(event_log, settings.cache_mb * MEBIBYTE)
        self.judgements = Judgements(settings.cache_mb * MEBIBYTE)
        self._erased = ErasedSubjects()
        self.secrets = SubjectSecrets(database, self.erased)
        self.subject_keys = SubjectKeys(database, keks, self.erased)
        self.srefs: dict[bytes, str] = {}
        """Subjects' `sref` by keyed hash of their identifier."""
        self.stamp = Stamp()
        self.outbound = Outbound(changes, self.stamp, audit.bar)
        self.gate = Gate()
        self.open = OpenStreams()
        self.in_flight = InFlight(settings.streams_in_flight, settings.in_flight_mb * MEBIBYTE)
        self.anonymous = Requests(settings.anonymous_requests_per_minute)
        self.stopping = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._permits: OrderedDict[tuple[str, str], Permit] = OrderedDict()
        self._deciding = Shared[tuple[object, ...], Decision]()
        self._deciders, self._deciders_after_a_turn = CapacityLimiter(DECIDING_AT_ONCE), CapacityLimiter(DECIDING_AFTER_A_TURN)
        self._shapes: dict[bytes, Shape] = {}
        self._buckets: dict[str, Bucket] = {}

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.log.start()

    def stop_streams(self) -> None:
        """Tell every stream to end with its cursor."""
        self.stopping = True
        self.outbound.stop()
        self._wake_all()

    async def stop(self) -> None:
        """End the streams and wait for them. Raises `TimeoutError` after the grace time."""
        self.stop_streams()
        async with asyncio.timeout(self.settings.stop_grace_s):
            await self.open.none_left()

    @property
    def erased(self) -> AbstractSet[str]:
        """Each `sref` that means nobody any more."""
        return self._erased.srefs

    def load(self, session: Session) -> None:
        """Learn who was erased."""
        self._erased.load(session)

    def on_changes(self, _session: Session, changes: Sequence[Change]) -> None:
        """After a change that forbids, or gives consent, what was judged is judged again; waiting streams wake up and look.

        Whoever was erased is forgotten when this returns. Raises `TimeoutError` if the event loop did not come to it: it is tried again.
        """
        gone = self._erased.on_changes(changes)
        numbers = [change.n for change in changes if change.forbids or change.kind.startswith("consent")]
        if numbers:
            self.stamp.advance(numbers[-1])
        if gone:
            self._on_loop(lambda: self._forget(gone))
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._wake_all)

    def _forget(self, srefs: AbstractSet[str]) -> None:
        """Drop what memory holds of these subjects: their names, secrets, keys, pseudonyms, and every frame that may show them."""
        self.srefs = {lookup: sref for lookup, sref in self.srefs.items() if sref not in srefs}
        self.secrets.forget(srefs)
        self.subject_keys.forget(srefs)
        self.blocks.forget_shapes()
        self.judgements.clear()
        for permit in self._permits.values():
            permit.view.lens.forget()

    def _on_loop(self, act: Callable[[], None]) -> None:
        """Act on the event loop, whose own these things are, and return when it is done. Raises `TimeoutError`. Not to be called on it."""
        if self.loop is None or self.loop.is_closed():
            act()
            return

        async def acting() -> None:
            act()

        asyncio.run_coroutine_threadsafe(acting(), self.loop).result(FORGOTTEN_S)

    def _wake_all(self) -> None:
        woken, self._wake = self._wake, asyncio.Event()
        woken.set()

    @property
    def next_change(self) -> asyncio.Event:
        """Set at the next change. To be taken before what a change could alter is looked at."""
        return self._wake

    async def decided(self, question: Question) -> Decision:
        """A new decision; readers that ask the same at once share one, and so one view. Raises what `Access.decide` raises."""
        key = (self.stamp.value, question.key)  # a decision that was begun before a forbidding change is nobody's who comes after it
        deciders = self._deciders_after_a_turn if self.access.switch.turned_just_now else self._deciders
        return await self._deciding.ask(key, lambda: anyio.to_thread.run_sync(self._decide, question, limiter=deciders))

    def _decide(self, question: Question) -> Decision:
        return self.access.decide(
            question.action, caller=question.caller, dataset=question.dataset, purpose=question.purpose, contract=question.contract
        )

    def permit(self, decision: Decision, dataset: DatasetView, contract: ContractView | None) -> Permit:
        """What an allowing decision lets its reader see: shared by all readers of the contract, compiled once.

        Raises `policy_denied` if the obligations cannot be carried out: an obligation that Python does not know means deny.
        """
        what = contract.id if contract else dataset.slug
        found = self._permits.get((what, decision.id))
        if found is not None:
            self._permits.move_to_end((what, decision.id))
            return found
        view = View(
            dataset.slug,
            Lens(self.shape(decision.obligations, dataset), contract_key(self.keys, what), _attributes(self.issuer, dataset, contract)),
            self.allows(decision.obligations, dataset, contract),
            self.consents,
            self.secrets,
            self.stamp,
            self.judgements,
            opening_of(decision.obligations, dataset, self.subject_keys),
            self._doubts(decision, dataset, contract),
        )
        permit = Permit(decision, view, self._bucket(what, decision))
        self._permits[what, decision.id] = permit
        if len(self._permits) > KEPT_VIEWS:
            self._permits.popitem(last=False)
        return permit

    def shape(self, obligations: Obligations, dataset: DatasetView) -> Shape:
        """What these obligations make of the dataset's events, compiled once. Raises `policy_denied` as `permit` does."""
        key = shape_key(obligations, dataset)
        try:
            shape = self._shapes.get(key) or compile_shape(obligations, dataset)
        except Refusal as error:
            log.warning("obligation_refused", dataset=dataset.slug, reason=str(error))
            raise ExchangeError("policy_denied", "The policy asks for something that cannot be carried out on this dataset.") from error
        self._shapes[key] = shape
        return shape

    def allows(self, obligations: Obligations, dataset: DatasetView, contract: ContractView | None) -> Allows | None:
        """Whose events consent lets pass, the same object for the same question; None: everybody's."""
        filters = {obligation["kind"] for obligation in obligations} & {"consent_filter", "opt_out_filter"}
        if not filters:
            return None
        found = purpose(contract.purpose) if contract else None
        if contract is None or found is None:
            return _nobody
        opt_out = "consent_filter" not in filters
        return self.consents.view(dataset.slug, found.with_broader, contract.consumer_id, unless_opted_out=opt_out)

    def _doubts(self, decision: Decision, dataset: DatasetView, contract: ContractView | None) -> DoubtView | None:
        """Whom the consent filter has to be asked of one by one."""
        found = purpose(contract.purpose) if contract else None
        if contract is None or found is None or all(obligation["kind"] != "consent_filter" for obligation in decision.obligations):
            return None
        return self.consents.doubt_view(dataset.slug, found.with_broader, contract.consumer_id)

    def _bucket(self, what: str, decision: Decision) -> Bucket | None:
        for obligation in decision.obligations:
            if obligation["kind"] == "rate_limit":
                fresh = Bucket(int(obligation["events"]), period_ms(obligation["per"]) / 1000)
                kept = self._buckets.get(what)
                if kept is None or kept.most != fresh.most:
                    self._buckets[what] = kept = fresh
                return kept
        return None


def _attributes(issuer: str, dataset: DatasetView, contract: ContractView | None) -> dict[str, str]:
    """What each event is given on its way out."""
    added = {"dataset": dataset.slug, "licence": dataset.licence["id"]}
    if contract is None:
        return added | {"dataschema": f"{issuer}/v1/datasets/{dataset.slug}/schemas/{dataset.current}"}
    return added | {"contract": contract.id, "dataschema": f"{issuer}/v1/contracts/{contract.id}/schema"}
