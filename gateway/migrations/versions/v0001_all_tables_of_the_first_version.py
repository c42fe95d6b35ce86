"""All tables of the first version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _audit_entries()
    _change_counter()
    _changes()
    _decisions()
    _idempotent_answers()
    _organizations()
    _policy_revisions()
    _published_ranges()
    _used_assertions()
    _clients()
    _datasets()
    _contracts()
    _offers()
    _schema_versions()
    _contract_signatures()
    _consents()
    _subjects()
    op.execute(sa.text("INSERT INTO change_counter (id, n) VALUES (1, 0)"))


def _audit_entries() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=True),
        sa.Column("organization", sa.String(), nullable=True),
        sa.Column("provider", sa.String(), nullable=True),
        sa.Column("consumer", sa.String(), nullable=True),
        sa.Column("dataset", sa.String(), nullable=True),
        sa.Column("contract", sa.String(), nullable=True),
        sa.Column("purpose", sa.String(), nullable=True),
        sa.Column("decision", sa.String(), nullable=True),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("opening", sa.LargeBinary(), nullable=True),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_entries")),
        sa.UniqueConstraint("leaf_hash", name=op.f("uq_audit_entries_leaf_hash")),
    )
    op.create_index(op.f("ix_audit_entries_actor"), "audit_entries", ["actor"], unique=False)
    op.create_index(op.f("ix_audit_entries_at"), "audit_entries", ["at"], unique=False)
    op.create_index(op.f("ix_audit_entries_consumer"), "audit_entries", ["consumer"], unique=False)
    op.create_index(op.f("ix_audit_entries_contract"), "audit_entries", ["contract"], unique=False)
    op.create_index(op.f("ix_audit_entries_dataset"), "audit_entries", ["dataset"], unique=False)
    op.create_index(op.f("ix_audit_entries_decision"), "audit_entries", ["decision"], unique=False)
    op.create_index(op.f("ix_audit_entries_kind"), "audit_entries", ["kind"], unique=False)
    op.create_index(op.f("ix_audit_entries_organization"), "audit_entries", ["organization"], unique=False)
    op.create_index(op.f("ix_audit_entries_provider"), "audit_entries", ["provider"], unique=False)


def _change_counter() -> None:
    op.create_table(
        "change_counter",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change_counter")),
    )


def _changes() -> None:
    op.create_table(
        "changes",
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("object", sa.String(), nullable=False),
        sa.Column("forbids", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("n", name=op.f("pk_changes")),
    )


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=True),
        sa.Column("organization_id", sa.String(), nullable=True),
        sa.Column("dataset_slug", sa.String(), nullable=False),
        sa.Column("contract_id", sa.String(), nullable=True),
        sa.Column("purpose", sa.String(), nullable=True),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("allow", sa.Boolean(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("obligations", sa.JSON(), nullable=False),
        sa.Column("revision", sa.String(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
    )
    op.create_index(op.f("ix_decisions_client_id"), "decisions", ["client_id"], unique=False)
    op.create_index(op.f("ix_decisions_contract_id"), "decisions", ["contract_id"], unique=False)
    op.create_index(op.f("ix_decisions_dataset_slug"), "decisions", ["dataset_slug"], unique=False)
    op.create_index(op.f("ix_decisions_organization_id"), "decisions", ["organization_id"], unique=False)


def _idempotent_answers() -> None:
    op.create_table(
        "idempotent_answers",
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("attempt", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("secret_key_id", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "path", "key", name=op.f("pk_idempotent_answers")),
    )
    op.create_index(op.f("ix_idempotent_answers_expires_at"), "idempotent_answers", ["expires_at"], unique=False)


def _organizations() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.Column("contact", sa.String(), nullable=True),
        sa.Column("operates", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
        sa.UniqueConstraint("name", name=op.f("uq_organizations_name")),
    )


def _policy_revisions() -> None:
    op.create_table(
        "policy_revisions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_revisions")),
    )
    op.create_index(op.f("ix_policy_revisions_state"), "policy_revisions", ["state"], unique=False)


def _published_ranges() -> None:
    op.create_table(
        "published_ranges",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("topic_id", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_published_ranges")),
    )
    op.create_index("ix_published_ranges_where", "published_ranges", ["topic_id", "partition", "first"], unique=False)


def _used_assertions() -> None:
    op.create_table(
        "used_assertions",
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("jti", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "jti", name=op.f("pk_used_assertions")),
    )
    op.create_index(op.f("ix_used_assertions_expires_at"), "used_assertions", ["expires_at"], unique=False)


def _clients() -> None:
    op.create_table(
        "clients",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("token_endpoint_auth_method", sa.String(), nullable=False),
        sa.Column("secret_key_id", sa.String(), nullable=True),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=True),
        sa.Column("jwks", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_clients_organization_id_organizations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clients")),
    )
    op.create_index(op.f("ix_clients_organization_id"), "clients", ["organization_id"], unique=False)


def _datasets() -> None:
    op.create_table(
        "datasets",
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("title", sa.JSON(), nullable=False),
        sa.Column("description", sa.JSON(), nullable=False),
        sa.Column("classification", sa.String(), nullable=False),
        sa.Column("licence", sa.JSON(), nullable=False),
        sa.Column("licence_revoked", sa.Boolean(), nullable=False),
        sa.Column("key_pointer", sa.String(), nullable=True),
        sa.Column("subject_pointer", sa.String(), nullable=True),
        sa.Column("subject_scheme", sa.String(), nullable=True),
        sa.Column("personal_pointers", sa.JSON(), nullable=False),
        sa.Column("partitions", sa.Integer(), nullable=False),
        sa.Column("retention", sa.String(), nullable=True),
        sa.Column("compatibility", sa.String(), nullable=False),
        sa.Column("contact", sa.String(), nullable=True),
        sa.Column("legal_authority", sa.String(), nullable=True),
        sa.Column("assessment", sa.String(), nullable=True),
        sa.Column("supersedes", sa.String(), nullable=True),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("topic_id", sa.String(), nullable=True),
        sa.Column("current", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["organizations.id"], name=op.f("fk_datasets_owner_id_organizations")),
        sa.PrimaryKeyConstraint("slug", name=op.f("pk_datasets")),
    )
    op.create_index(op.f("ix_datasets_owner_id"), "datasets", ["owner_id"], unique=False)


def _contracts() -> None:
    op.create_table(
        "contracts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("provider_id", sa.String(), nullable=False),
        sa.Column("consumer_id", sa.String(), nullable=False),
        sa.Column("dataset_slug", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("history", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("offer_id", sa.String(), nullable=True),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.Column("text_digest", sa.String(), nullable=False),
        sa.Column("decision_id", sa.String(), nullable=False),
        sa.Column("suspended_by", sa.String(), nullable=True),
        sa.Column("ended_reason", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("reason_note", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["consumer_id"], ["organizations.id"], name=op.f("fk_contracts_consumer_id_organizations")),
        sa.ForeignKeyConstraint(["dataset_slug"], ["datasets.slug"], name=op.f("fk_contracts_dataset_slug_datasets")),
        sa.ForeignKeyConstraint(["provider_id"], ["organizations.id"], name=op.f("fk_contracts_provider_id_organizations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contracts")),
    )
    op.create_index(op.f("ix_contracts_consumer_id"), "contracts", ["consumer_id"], unique=False)
    op.create_index(op.f("ix_contracts_dataset_slug"), "contracts", ["dataset_slug"], unique=False)
    op.create_index(op.f("ix_contracts_provider_id"), "contracts", ["provider_id"], unique=False)
    op.create_index(op.f("ix_contracts_state"), "contracts", ["state"], unique=False)


def _offers() -> None:
    op.create_table(
        "offers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("dataset_slug", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("max_validity", sa.String(), nullable=False),
        sa.Column("max_history", sa.String(), nullable=False),
        sa.Column("to", sa.JSON(), nullable=False),
        sa.Column("signed_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["dataset_slug"], ["datasets.slug"], name=op.f("fk_offers_dataset_slug_datasets")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offers")),
    )
    op.create_index(op.f("ix_offers_dataset_slug"), "offers", ["dataset_slug"], unique=False)


def _schema_versions() -> None:
    op.create_table(
        "schema_versions",
        sa.Column("dataset_slug", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["dataset_slug"], ["datasets.slug"], name=op.f("fk_schema_versions_dataset_slug_datasets")),
        sa.PrimaryKeyConstraint("dataset_slug", "number", name=op.f("pk_schema_versions")),
    )


def _contract_signatures() -> None:
    op.create_table(
        "contract_signatures",
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("jws", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["contract_id"], ["contracts.id"], name=op.f("fk_contract_signatures_contract_id_contracts")),
        sa.PrimaryKeyConstraint("contract_id", "side", name=op.f("pk_contract_signatures")),
    )


def _consents() -> None:
    op.create_table(
        "consents",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("sref", sa.LargeBinary(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("purposes", sa.JSON(), nullable=False),
        sa.Column("recipients", sa.JSON(), nullable=False),
        sa.Column("notice", sa.JSON(), nullable=True),
        sa.Column("given_by", sa.String(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consents")),
    )
    op.create_index(op.f("ix_consents_dataset"), "consents", ["dataset"], unique=False)
    op.create_index(op.f("ix_consents_sref"), "consents", ["sref"], unique=False)


def _subjects() -> None:
    op.create_table(
        "subjects",
        sa.Column("sref", sa.LargeBinary(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("lookup", sa.LargeBinary(), nullable=False),
        sa.Column("lookup_key_id", sa.String(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sref", name=op.f("pk_subjects")),
        sa.UniqueConstraint("lookup", "lookup_key_id", name=op.f("uq_subjects_lookup")),
    )
