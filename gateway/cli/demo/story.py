"""The story in its order: what a newcomer sees."""

from __future__ import annotations

import time
from functools import partial

from gateway.cli.demo import audited, footfall, open_data, tour, withdrawal
from gateway.cli.demo.cast import gather
from gateway.cli.demo.process import Exchange
from gateway.cli.demo.screen import Screen


def tell(exchange: Exchange, screen: Screen, began: float, *, engines: str, leave: bool) -> None:
    """The story, from the first organization to the auditor's list. Raises `ClaimFailed`, `ProblemError`."""
    screen.say(f"An exchange for the City of Mississauga, at {' and '.join(exchange.urls)}, on {engines}.")
    cast = gather(exchange, screen)
    try:
        published = open_data.open_datasets(cast)
        open_data.anybody_reads(cast, published)
        offer, transit = open_data.take_up_an_offer(cast, published)
        known = footfall.sign_a_contract(cast)
        footfall.visitors_consent(cast, known)
        withdrawal.a_visitor_holds_a_receipt(cast, known)
        listeners = footfall.read_what_is_allowed(cast, known)
        footfall.advertising_is_denied(cast)
        resident = withdrawal.a_visitor_withdraws(cast, known, listeners)
        footfall.the_contract_is_suspended(cast, known, listeners)
        audited.the_auditor_asks(cast, [transit, known.contract], listeners)
        screen.say(f"\nEvery claim held. {time.monotonic() - began:.0f} seconds.")
        if not leave:
            path = exchange.folder / "env"
            named = {"OFFER": offer, "TRANSIT": transit, "FOOTFALL": known.contract, "RESIDENT": resident}
            held = {"RECEIPT": known.receipts[withdrawal.ANOTHER], "WITHDRAWAL_CODE": known.consents[withdrawal.ANOTHER]}
            write = partial(tour.write_environment, path, exchange, cast, named | held)
            write()
            tour.show(screen, path, exchange)
            tour.stay(exchange, cast, known, write)
    finally:
        cast.close()
