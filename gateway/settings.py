"""The settings: environment variables `EXCHANGE_...`, read once, frozen. Production refuses what is only safe in development."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.errors import SettingsRefused


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
    kek: SecretStr = Field(SecretStr(""), description="Key-encryption keys, base64, the current one first; empty: those of the key file.")
    kek_command: str = Field("", description="A command that prints them instead, run without a shell.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    token_lifetime_s: int = Field(600, ge=30, le=3600, description="Seconds an access token lives.")
    streams_per_contract: int = Field(4, ge=1, description="Open streams a contract may hold in this process.")
    anonymous_requests_per_minute: int = Field(60, ge=1, description="Reads without a token, per address.")
    withdrawals_per_minute: int = Field(10, ge=1, description="Withdrawals by code, per address.")
    anonymous_streams: int = Field(2, ge=0, description="Open streams without a token, per address.")
    cache_mb: int = Field(64, ge=1, description="Memory for decoded blocks of the log, and as much for what contracts see of them, in MiB.")
    notices_days: int = Field(90, ge=8, description="Days that an organization finds a notice in its feed.")
    disclosures_days: int = Field(730, ge=1, description="Days that a person is told of who received something about them.")
    sessions_per_minute: int = Field(10, ge=1, description="Codes of persons that are tried, per address.")
    lease_s: float = Field(2.0, ge=0.5, le=60, description="Seconds of a replica's lease: so long a silent one may hold up who forbids.")
    stop_grace_s: float = Field(5.0, ge=0, description="Seconds that a stopping gateway gives its streams to end with a cursor.")

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
    def development(self) -> bool:
        return self.environment == "development"

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
        return self
