"""The rows of the benchmark, in the order in which they run, and the goal of each result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks import audit, auditor, consents, inside, latency, live, pages, policy, sealing, throughput, tokens, withdrawal
from tests.benchmarks.measured import Measured
from tests.benchmarks.stage import Stage


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: the names of its results, and the seconds after which it is given up."""

    names: tuple[str, ...]
    measure: Callable[[Stage], Measured]
    seconds: int


@dataclass(frozen=True, slots=True)
class Goal:
    """What a result should reach."""

    sign: str
    value: float

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"

    def is_met(self, result: float) -> bool:
        return result >= self.value if self.sign == ">=" else result <= self.value


# The memory of an idle gateway comes before anything that is not idle.
ROWS = (
    Row(("rss_idle_mb",), inside.rss_idle, 30),
    Row(("first_event_ms", "first_event_calls"), latency.first_event, 120),
    Row(("enforce_us",), inside.enforce, 120),
    Row(("seal_us", "open_us"), sealing.seal_and_open, 60),
    Row(("consent_lookup_us", "consent_load_s", "consent_mb"), consents.lookup_and_load, 400),
    Row(("decide_cached_us",), inside.decide_cached, 120),
    Row(("decide_opa_p99_ms",), inside.decide_opa, 120),
    Row(("verify_bearer_us", "verify_dpop_us"), tokens.verify, 60),
    Row(("audit_verify_1m_s", "audit_verify_mb"), auditor.verify_1m, 600),
    Row(("token_per_s",), tokens.token_per_s, 120),
    Row(("added_latency_ms_p50", "added_latency_ms_p99"), latency.added_latency, 240),
    Row(("publish_batch_vs_producer",), throughput.publish_batch_vs_producer, 240),
    Row(("pull_vs_consumer",), throughput.pull_vs_consumer, 300),
    Row(("sse_fanout_100",), throughput.sse_fanout_100, 300),
    Row(("sse_fanout_100_contracts",), throughput.sse_fanout_100_contracts, 600),
    Row(("stream_1m_vs_1k_subjects",), live.stream_1m_vs_1k_subjects, 600),
    Row(("stream_10k_vs_10_contracts",), live.stream_10k_vs_10_contracts, 300),
    Row(("stream_with_vs_without_lease",), live.stream_with_vs_without_lease, 300),
    Row(("audit_append_per_s", "audit_1m_vs_100k"), audit.append, 600),
    Row(("audit_added_p99_ms",), audit.added, 120),
    Row(("stream_with_vs_without_audit",), audit.streams, 600),
    Row(("audit_proof_ms",), audit.proofs, 300),
    Row(("audit_search_p99_ms",), audit.search, 600),
    Row(("withdraw_p99_ms", "forbidden_after_withdraw"), withdrawal.withdraw, 600),
    Row(("activate_p99_ms",), policy.activate, 600),
    Row(("preview_10k_s",), policy.preview, 300),
    Row(("page_p99_ms",), pages.page_p99, 240),
)
GOALS = {
    "publish_batch_vs_producer": Goal(">=", 1.5),
    "pull_vs_consumer": Goal(">=", 0.5),
    "sse_fanout_100": Goal(">=", 30),
    "sse_fanout_100_contracts": Goal(">=", 5),
    "enforce_us": Goal("<=", 5),
    "seal_us": Goal("<=", 15),
    "open_us": Goal("<=", 15),
    "consent_lookup_us": Goal("<=", 0.3),
    "stream_1m_vs_1k_subjects": Goal(">=", 0.9),
    "stream_10k_vs_10_contracts": Goal(">=", 0.9),
    "stream_with_vs_without_lease": Goal(">=", 0.95),
    "audit_append_per_s": Goal(">=", 20_000),
    "audit_1m_vs_100k": Goal(">=", 0.9),
    "audit_added_p99_ms": Goal("<=", 10),
    "stream_with_vs_without_audit": Goal(">=", 0.95),
    "audit_proof_ms": Goal("<=", 5),
    "audit_search_p99_ms": Goal("<=", 200),
    "withdraw_p99_ms": Goal("<=", 250),
    "forbidden_after_withdraw": Goal("<=", 0),
    "activate_p99_ms": Goal("<=", 500),
    "preview_10k_s": Goal("<=", 10),
    "page_p99_ms": Goal("<=", 150),
    "decide_opa_p99_ms": Goal("<=", 10),
    "token_per_s": Goal(">=", 250),
    "audit_verify_1m_s": Goal("<=", 15),
    "audit_verify_mb": Goal("<=", 300),
    "verify_bearer_us": Goal("<=", 100),
    "verify_dpop_us": Goal("<=", 300),
    "first_event_ms": Goal("<=", 150),
    "first_event_calls": Goal("<=", 4),
}
"""The others are reported."""
