"""The authorization server, on Authlib's core: `client_credentials` (RFC 6749 section 4.4), RFC 9068 tokens, bound by DPoP (RFC 9449).

Authlib's defaults that are replaced here: tokens that live ten days, an `aud` that is the client, tokens in the debug log,
`null` for a token that is rubbish, a lookup of the client that tells whether it exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from authlib.oauth2 import AuthorizationServer as AuthlibServer
from authlib.oauth2 import OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749 import ClientCredentialsGrant, InvalidRequestError, UnauthorizedClientError
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from joserfc.jwk import KeySet
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from gateway.database import Database, new_id
from gateway.errors import ExchangeError
from gateway.identity.authorization_details import ContractParties, read_authorization_details
from gateway.identity.client_authentication import METHODS, AuthenticatedClient, ClientAuthentication
from gateway.identity.directory import Directory
from gateway.identity.dpop import Proof, ProofRefused
from gateway.identity.introspection import Introspection
from gateway.identity.person_tokens import PersonTokens
from gateway.identity.proofs import Proofs
from gateway.identity.published_keys import PublishedKeys
from gateway.identity.revocation import Revocation
from gateway.identity.scopes import SCOPES
from gateway.keys import Keys
from gateway.settings import Settings

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class AuthorizationServer:
    """The endpoints for tokens. Synchronous and thread-safe: call it in a worker thread."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        database: Database,
        directory: Directory,
        contract_parties: ContractParties,
        proofs: Proofs,
        published: PublishedKeys,
    ) -> None:
        self._proofs = proofs
        self._protocol = _Protocol(settings, database, directory, contract_parties, proofs)
        self._authentication = ClientAuthentication(directory, proofs.once, keys.secret("client_secret"), published)
        self._protocol.authentication = self._authentication
        self.people = PersonTokens(settings, keys, database, directory)

    def token(self, headers: Headers, form: Mapping[str, str]) -> JSONResponse:
        """The answer of `POST /oauth/token`, an error in OAuth's form included."""
        if "grant_type" not in form:
            return refusal(InvalidRequestError("grant_type is missing."))
        if self.people.offers(form["grant_type"]):
            try:
                return self.people.token(headers, form)
            except OAuth2Error as error:
                return refusal(error)
        if form["grant_type"] != "client_credentials":
            return refusal(OAuth2Error("This grant is not offered here: see grant_types_supported.", error="unsupported_grant_type"))
        sent = headers.getlist("dpop")
        try:
            # Before the client's own proof is looked at, which is spent then: one whose nonce is of long ago may send it again.
            proof = self._proofs.read(sent, method="POST", path=TOKEN_PATH) if sent else None
        except ProofRefused as refused:
            return refusal(BadProof(refused, self._proofs.nonce))
        return self._answer(self._protocol.create_token_response, headers, form, proof)

    def introspect(self, headers: Headers, form: Mapping[str, str]) -> JSONResponse:
        """The answer of `POST /oauth/introspect` (RFC 7662)."""
        return self._answer(lambda request: self._protocol.create_endpoint_response("introspection", request), headers, form)

    def revoke(self, headers: Headers, form: Mapping[str, str]) -> JSONResponse:
        """The answer of `POST /oauth/revoke` (RFC 7009), given when no replica accepts the token any more."""
        return self._answer(lambda request: self._protocol.create_endpoint_response("revocation", request), headers, form)

    @staticmethod
    def _answer(endpoint: Callable[[_Request], Any], headers: Headers, form: Mapping[str, str], proof: Proof | None = None) -> JSONResponse:
        try:
            answer: JSONResponse = endpoint(_Request(headers, form, proof))
        except ExchangeError as error:
            if error.status < 500 and error.code != "barrier_pending":
                raise
            body = {"error": "temporarily_unavailable", "error_description": "Try again in a moment."}
            return JSONResponse(body, 503, NO_STORE | {"Retry-After": "2"})
        return answer


def refusal(error: OAuth2Error) -> JSONResponse:
    """An error in OAuth's own form (RFC 6749 section 5.2)."""
    status, body, headers = error()
    return JSONResponse(body, status, dict(headers))


class BadProof(OAuth2Error):  # type: ignore[misc] # Authlib has no types
    """`invalid_dpop_proof` or `use_dpop_nonce`, 400, with the nonce to use (RFC 9449 sections 5 and 8)."""

    def __init__(self, refused: ProofRefused, nonce: str) -> None:
        super().__init__(description=refused.description, error=refused.error)
        self._nonce = nonce

    def get_headers(self) -> list[tuple[str, str]]:
        return [*super().get_headers(), ("DPoP-Nonce", self._nonce)]


class _Request(OAuth2Request):  # type: ignore[misc] # Authlib has no types
    def __init__(self, headers: Headers, form: Mapping[str, str], proof: Proof | None) -> None:
        # Authlib refuses http here. The settings refuse it in production, and nothing else is read from this address.
        super().__init__("POST", "https://exchange.invalid")
        self.headers = headers
        self.proof = proof
        self.payload = BasicOAuth2Payload(dict(form))

    @property
    def form(self) -> dict[str, str]:
        form: dict[str, str] = self.payload.data
        return form


class _Protocol(AuthlibServer):  # type: ignore[misc] # Authlib has no types
    authentication: ClientAuthentication

    def __init__(
        self,
        settings: Settings,
        database: Database,
        directory: Directory,
        contract_parties: ContractParties,
        proofs: Proofs,
    ) -> None:
        super().__init__(scopes_supported=list(SCOPES))
        self.database = database
        self.proofs = proofs
        self.directory = directory
        self.contract_parties = contract_parties
        self.register_token_generator("default", _TokenGenerator(settings, directory))
        self.register_grant(_Grant)
        self.register_endpoint(Introspection(self))
        self.register_endpoint(Revocation(self))

    def authenticate_client(self, request: _Request, methods: Sequence[str], endpoint: str = "token") -> AuthenticatedClient:  # noqa: ARG002
        return self.authentication.authenticate(request.headers, request.form)

    def create_oauth2_request(self, request: _Request) -> _Request:
        return request

    def handle_response(self, status: int, body: Mapping[str, Any], headers: Sequence[tuple[str, str]]) -> JSONResponse:
        return JSONResponse(body, status, dict(headers))

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Authlib would tell a framework; nobody listens here."""

    def save_token(self, token: Mapping[str, Any], request: _Request) -> None:
        """A token is not kept: its signature proves it, and the standing of its client is looked up at each call."""


class _Grant(ClientCredentialsGrant):  # type: ignore[misc] # Authlib has no types
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def validate_token_request(self) -> None:
        super().validate_token_request()
        client: AuthenticatedClient = self.request.client
        organization = self.server.directory.organization(client.view.organization_id)
        if organization is None or organization.standing != "approved":
            raise UnauthorizedClientError("The organization of this client is not approved: ask the operator.")
        if any(resource != self.server.directory.issuer for resource in self.request.form.get("resource", "").split(" ") if resource):
            raise OAuth2Error("Tokens of this exchange are for the exchange itself: leave resource out.", error="invalid_target")
        asked = self.request.form.get("authorization_details")
        client.authorization_details = read_authorization_details(asked, client.view.organization_id, self.server.contract_parties)
        client.key_thumbprint = self._use_proof(client)

    def _use_proof(self, client: AuthenticatedClient) -> str | None:
        """The thumbprint of the key that the token will be bound to (RFC 9449 section 5)."""
        proofs: Proofs = self.server.proofs
        proof: Proof | None = self.request.proof
        try:
            if proof is None:
                if client.view.dpop_bound:
                    raise ProofRefused("This client asks for tokens with a DPoP proof, as it was registered.")
                return None
            proofs.use_everywhere(proof)
        except ProofRefused as refused:
            raise BadProof(refused, proofs.nonce) from refused
        return proof.thumbprint

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        """As Authlib's, without writing the token to the debug log, and with what was granted (RFC 9396 section 7)."""
        token = self.generate_token(scope=self.request.payload.scope, include_refresh_token=False)
        if self.request.client.authorization_details:
            token["authorization_details"] = self.request.client.authorization_details
        if self.request.client.key_thumbprint is None:
            return 200, token, self.TOKEN_RESPONSE_HEADER
        return 200, token | {"token_type": "DPoP"}, [*self.TOKEN_RESPONSE_HEADER, ("DPoP-Nonce", self.server.proofs.nonce)]


class _TokenGenerator(JWTBearerTokenGenerator):  # type: ignore[misc] # Authlib has no types
    def __init__(self, settings: Settings, directory: Directory) -> None:
        super().__init__(settings.issuer, alg="ES256", expires_generator=settings.token_lifetime_s)
        self._directory = directory

    def get_jwks(self) -> KeySet:
        """A set, not a key: for a set the `kid` is written into the header."""
        return KeySet([self._directory.signing.signer("token")])

    def get_audiences(self, client: AuthenticatedClient, user: None, scope: str) -> str:  # noqa: ARG002
        issuer: str = self.issuer
        return issuer

    def get_jti(self, client: AuthenticatedClient, grant_type: str, user: None, scope: str) -> str:  # noqa: ARG002
        return new_id("tok")

    def get_extra_claims(self, client: AuthenticatedClient, grant_type: str, user: None, scope: str) -> dict[str, Any]:  # noqa: ARG002
        claims: dict[str, Any] = {"client_auth_method": client.view.token_endpoint_auth_method}
        if client.authorization_details:
            claims["authorization_details"] = client.authorization_details
        if client.key_thumbprint is not None:
            claims["cnf"] = {"jkt": client.key_thumbprint}
        return claims
