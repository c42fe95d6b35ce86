"""The settings: environment variables `EXCHANGE_...`, read once, frozen. Production refuses what is only safe in development."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.errors import SettingsRefused

PERSON_ROLES = frozenset({"data_steward", "privacy_officer", "auditor", "operator"})
"""What the groups of the city's provider may stand for. Who administers a partner is said here, by an operator."""
LEAST_APPROVAL_WAIT_H = 24


class FurtherProvider(BaseModel):
    """A further OpenID provider, for people of partners. It cannot say that somebody has a role."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str
    client_id: str = ""
    scope: str = "openid profile"
    web_client_id: str = ""
    web_client_secret: SecretStr = SecretStr("")


class Settings(BaseSettings):
    """Every setting of the gateway. `docs/operations.md` lists them with what each is for."""

    model_config = SettingsConfigDict(env_prefix="EXCHANGE_", frozen=True, extra="ignore")

    environment: Literal["production", "development"] = "production"
    issuer: str = Field("http://127.0.0.1:8080", description="The public root URL; every link, token and document names it.")
    host: str = "127.0.0.1"
    port: int = 8080
    admin_host: str = "127.0.0.1"
    admin_port: int = Field(9090, description="Metrics and the policy bundle are served here; keep it private.")
    data_dir: Path = Field(Path("exchange-data"), description="Where the embedded engines and the key file live.")
    key_file: Path | None = Field(None, description="The key file; by default `keys.json` in the data directory.")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data directory.")
    log_url: str = Field("", description="`kafka://host:port,host:port`; empty: a SQLite log in the data directory.")
    policy_url: str = Field("", description="`http://host:port` of an OPA server; empty: the embedded engine.")
    policy_token: SecretStr = Field(SecretStr(""), description="The bearer token between the gateway and its OPA, both ways.")
    opa_binary: str = Field("opa", description="The OPA program that vets candidate policies, by name or path; production needs it.")
    kek: SecretStr = Field(SecretStr(""), description="Key-encryption keys, base64, the current one first; empty: the key file's.")
    kek_command: str = Field("", description="A command that prints them instead, run without a shell.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    token_lifetime_s: int = Field(600, ge=30, le=3600, description="Seconds an access token lives.")
    jwks_cache_s: int = Field(300, ge=1, le=86_400, description="Seconds for which others may keep the JWKS; a new key waits for as long.")
    streams_per_contract: int = Field(4, ge=1, description="Open streams a contract may hold in this process.")
    client_requests_per_minute: int = Field(6000, ge=1, description="Requests of one client or person, in this process.")
    organization_requests_per_minute: int = Field(12_000, ge=1, description="Requests of all clients of an organization, in this process.")
    failed_logins_per_minute: int = Field(20, ge=1, description="Failed authentications by secret, per address and per client.")
    streams_in_flight: int = Field(4000, ge=1, description="Open streams in this process.")
    in_flight_mb: int = Field(256, ge=17, description="Bodies that came, and pages that wait to leave, in this process, in MiB.")
    anonymous_requests_per_minute: int = Field(60, ge=1, description="Reads without a token, per address.")
    withdrawals_per_minute: int = Field(10, ge=1, description="Withdrawals by code, per address.")
    anonymous_streams: int = Field(2, ge=0, description="Open streams without a token, per address.")
    cache_mb: int = Field(64, ge=1, description="Memory for decoded blocks of the log, and as much for what contracts see of them, in MiB.")
    notices_days: int = Field(90, ge=8, description="Days that an organization finds a notice in its feed.")
    audit_dir: Path | None = Field(
        None, description="Where the published audit log lives, for all replicas; by default `audit` in the data directory."
    )
    audit_witnesses: Path | None = Field(None, description="The witnesses of the audit log and the quorum of them, as C2SP tlog-policy.")
    audit_days: int | None = Field(None, ge=30, description="Days after which an audit entry and its salt are deleted; empty: never.")
    disclosures_days: int = Field(730, ge=1, description="Days that a person is told of who received something about them.")
    sessions_per_minute: int = Field(10, ge=1, description="Codes of persons that are tried, per address.")
    registrations_per_minute: int = Field(20, ge=1, description="Organizations asked for and calls of registration, per address.")
    partner_networks: str = Field("", description="Networks beside the public ones that URLs of partners may be on, comma between them.")
    security_contact: str = Field("", description="`mailto:` or https address in security.txt (RFC 9116); empty: there is none.")
    lease_s: float = Field(2.0, ge=0.5, le=60, description="Seconds of a replica's lease: so long a silent one may hold up who forbids.")
    stop_grace_s: float = Field(5.0, ge=0, description="Seconds that a stopping gateway gives its streams to end with a cursor.")

    oidc_issuer: str = Field("", description="The city's OpenID provider, at which people sign in; empty: none.")
    oidc_client_id: str = Field("", description="The public client of the command line there, with a loopback redirect.")
    oidc_web_client_id: str = Field("", description="The client of the web session there, and its secret:")
    oidc_web_client_secret: SecretStr = SecretStr("")
    oidc_scope: str = Field("openid profile", description="What is asked of the provider.")
    oidc_roles_claim: str = Field("groups", description="The claim of the ID token that names groups.")
    oidc_roles: dict[str, str] = Field(default_factory=dict, description='JSON, group to role: `{"privacy-office": "privacy_officer"}`.')
    oidc_employee_claim: str = Field("", description="The claim with the verified number of an employee, for four eyes.")
    oidc_acr: str = Field("", description="The `acr` that counts as fresh proof of a person; empty: any, if it is recent.")
    oidc_further: tuple[FurtherProvider, ...] = Field((), description="JSON: further providers, whose people get roles here alone.")
    local_accounts: bool | None = Field(
        None, description="Accounts with a password of this exchange's own; by default in development only."
    )
    person_session_h: int = Field(12, ge=1, le=24, description="Hours after which a person signs in again, whatever they do.")
    person_idle_min: int = Field(30, ge=1, le=240, description="Minutes after which an idle browser session ends.")
    approval_wait_h: int = Field(24, ge=0, description="Hours that a new account, or one with other roles, waits before it approves.")

    @property
    def with_local_accounts(self) -> bool:
        """True if people may sign in by name and password."""
        return self.development if self.local_accounts is None else self.local_accounts

    @property
    def embedded(self) -> bool:
        """True if any engine is an embedded one."""
        return not (self.database_url and self.log_url and self.policy_url)

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'exchange.db'}"

    @property
    def resolved_key_file(self) -> Path:
        return self.key_file or self.data_dir / "keys.json"

    @property
    def resolved_audit_dir(self) -> Path:
        return self.audit_dir or self.data_dir / "audit"

    @property
    def development(self) -> bool:
        return self.environment == "development"

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Of `partner_networks`. Raises `ValueError`."""
        return tuple(ip_network(text.strip()) for text in self.partner_networks.split(",") if text.strip())

    @model_validator(mode="after")
    def _check_what_others_give(self) -> Self:
        try:
            inner = [str(network) for network in self.networks if network.is_loopback or network.is_link_local or network.prefixlen == 0]
        except ValueError as error:
            raise SettingsRefused("EXCHANGE_PARTNER_NETWORKS must be networks such as 10.20.0.0/16, with a comma between them.") from error
        if inner and not self.development:
            raise SettingsRefused(
                f"Production refuses {inner[0]} in EXCHANGE_PARTNER_NETWORKS: partners could name what is on this machine."
            )
        if self.security_contact and not re.fullmatch(r"(mailto:|https://)[\x21-\x7e]+", self.security_contact):
            raise SettingsRefused("EXCHANGE_SECURITY_CONTACT must be a mailto: or https: address (RFC 9116 section 2.5.3).")
        return self

    @model_validator(mode="after")
    def _refuse_insecure_production(self) -> Self:
        self_issuer_is_bare = not self.issuer.endswith("/") and "?" not in self.issuer and "#" not in self.issuer
        if not self_issuer_is_bare:
            raise SettingsRefused("EXCHANGE_ISSUER must have no trailing slash, query or fragment (RFC 8414 section 2).")
        if self.environment == "development":
            return self
        if not self.issuer.startswith("https://"):
            raise SettingsRefused(
                "Production needs an https issuer: set EXCHANGE_ISSUER, or EXCHANGE_ENVIRONMENT=development to try things out."
            )
        missing = [name for name in ("database_url", "log_url", "policy_url") if not getattr(self, name)]
        if missing:
            names = ", ".join(f"EXCHANGE_{name.upper()}" for name in missing)
            raise SettingsRefused(
                f"Production refuses the embedded engines: set {names}, or EXCHANGE_ENVIRONMENT=development to try things out."
            )
        if not self.policy_token.get_secret_value():
            raise SettingsRefused("Production needs EXCHANGE_POLICY_TOKEN: OPA and the gateway prove themselves to each other with it.")
        if not (self.kek_command or self.kek.get_secret_value()):
            raise SettingsRefused(
                "Production encrypts private keys, under a key that is not beside them: set EXCHANGE_KEK_COMMAND, which prints it from a "
                "key store, or EXCHANGE_KEK."
            )
        return self

    @model_validator(mode="after")
    def _refuse_unsafe_sign_in(self) -> Self:
        providers = [issuer for issuer in (self.oidc_issuer, *(further.issuer for further in self.oidc_further)) if issuer]
        if len(set(providers)) < len(providers):
            raise SettingsRefused("EXCHANGE_OIDC_FURTHER names a provider that is there already.")
        unknown = sorted(set(self.oidc_roles.values()) - PERSON_ROLES)
        if unknown:
            raise SettingsRefused(
                f"EXCHANGE_OIDC_ROLES gives the role {unknown[0]!r}, which no provider gives: {', '.join(sorted(PERSON_ROLES))}."
            )
        if self.oidc_issuer and not (self.oidc_client_id or self.oidc_web_client_id):
            raise SettingsRefused("EXCHANGE_OIDC_ISSUER needs EXCHANGE_OIDC_CLIENT_ID or EXCHANGE_OIDC_WEB_CLIENT_ID, or both.")
        secrets = [(self.oidc_web_client_id, self.oidc_web_client_secret)]
        secrets += [(further.web_client_id, further.web_client_secret) for further in self.oidc_further]
        if any(bool(client_id) != bool(secret.get_secret_value()) for client_id, secret in secrets):
            raise SettingsRefused("The client of the web session is a confidential one: it has an identifier and a secret, or neither.")
        if self.environment == "development":
            return self
        if any(not issuer.startswith("https://") for issuer in providers):
            raise SettingsRefused("Production takes an OpenID provider by https alone: see EXCHANGE_OIDC_ISSUER.")
        if self.approval_wait_h < LEAST_APPROVAL_WAIT_H:
            raise SettingsRefused(
                "Production lets a new account wait for 24 hours before it approves: EXCHANGE_APPROVAL_WAIT_H may raise that."
            )
        return self
