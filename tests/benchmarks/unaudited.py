"""`python -m tests.benchmarks.unaudited`: `exchange serve` of a gateway whose streams write no audit log, for the ratio that says what
that costs. Never to be run for anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import FastAPI

from gateway.app import create_app
from gateway.audit.published import Published
from gateway.audit.record import Entry, Receipt
from gateway.audit.release import AuditWriter
from gateway.serve import serve
from gateway.settings import Settings

RECEIPT = Receipt(bytes(32))


class _NoWriter(AuditWriter):
    """Takes entries, and writes none."""

    def release(self, entry: Entry, published: Sequence[Published] = ()) -> asyncio.Future[Receipt]:  # noqa: ARG002 - as the writer has it
        done: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        done.set_result(RECEIPT)
        return done


def create_app_without_audit(settings: Settings) -> FastAPI:
    """The gateway's application, save for the entries of its streams, and for the thread that grows the log."""
    app = create_app(settings)
    app.state.streams.audit = _NoWriter(app.state.database)
    app.state.sequencer.start = lambda: None
    return app


if __name__ == "__main__":
    serve(Settings(), create_app_without_audit)
