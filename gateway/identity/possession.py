"""Who presents a token must hold the key that it is bound to (RFC 9449 section 7)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from gateway.errors import ExchangeError
from gateway.identity.dpop import ProofRefused

if TYPE_CHECKING:
    from gateway.identity.proofs import Proofs

READS = frozenset({"GET", "HEAD"})
METHOD = "exchange.method"
"""In a request's scope: the method as it was sent, where what handles it sees another (HEAD is handled as GET)."""
ANSWER_HEADERS = "exchange.answer_headers"
"""In a request's scope: headers that its answer gets, whoever makes it."""


class NotHeld(ExchangeError):
    """The token is not accepted as it was presented. `error` is that of the `WWW-Authenticate` header's DPoP challenge."""

    def __init__(self, code: str, detail: str, error: str, nonce: str | None = None) -> None:
        super().__init__(code, detail, headers={"DPoP-Nonce": nonce} if nonce is not None else None)
        self.error = error


async def require_possession(request: Request, scheme: str, token: str, thumbprint: str | None) -> None:
    """Return if a token that is bound to the key with this thumbprint, or to none, may be presented so.

    Raises `NotHeld` with `dpop_required` or `token_invalid`, and `database_unavailable`.
    """
    if thumbprint is None:
        if scheme == "dpop":
            raise NotHeld("token_invalid", "The token is bound to no key: present it as `Bearer <token>`.", "invalid_token")
        return
    if scheme != "dpop":
        raise NotHeld("dpop_required", "The token is bound to a key: present it as `DPoP <token>`, with a proof.", "invalid_token")
    proofs: Proofs = request.app.state.proofs
    try:
        await _prove(request, proofs, token, thumbprint)
    except ProofRefused as refused:
        raise NotHeld("token_invalid", refused.description, refused.error, proofs.nonce) from refused
    request.scope.setdefault(ANSWER_HEADERS, {})["DPoP-Nonce"] = proofs.nonce


async def _prove(request: Request, proofs: Proofs, token: str, thumbprint: str) -> None:
    method = request.scope.get(METHOD, request.method)
    path = request.scope.get("raw_path", request.scope["path"].encode()).decode("latin-1")
    proof = proofs.read(request.headers.getlist("dpop"), method=method, path=path, token=token)
    if proof.thumbprint != thumbprint:
        raise ProofRefused("The proof is not by the key that the token is bound to.")
    if method in READS:
        proofs.use_here(proof, time.monotonic())
    else:
        await run_in_threadpool(proofs.use_everywhere, proof)
