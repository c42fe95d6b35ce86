"""Notices of consent, every state of a record with its history, withdrawal codes, mass import."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _consents()
    _consent_history()
    _consent_notices()
    _consent_imports()


def _consents() -> None:
    with op.batch_alter_table("consents") as table:
        table.alter_column("given_by", existing_type=sa.String(), nullable=True)
        table.alter_column("given_at", existing_type=sa.DateTime(timezone=True), nullable=True)
        table.add_column(sa.Column("legal_ground", sa.String(), nullable=False, server_default="consent"))
        table.add_column(sa.Column("covers_earlier", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("code_key_id", sa.String(), nullable=True))
        table.add_column(sa.Column("code_hash", sa.LargeBinary(), nullable=True))
        table.create_unique_constraint(op.f("uq_consents_code_hash"), ["code_hash"])
    op.create_index(op.f("ix_consents_change"), "consents", ["change"], unique=False)
    op.create_index("ix_consents_due", "consents", ["state", "valid_until"], unique=False)


def _consent_history() -> None:
    op.create_table(
        "consent_history",
        sa.Column("consent_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("client", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=True),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["consent_id"], ["consents.id"], name=op.f("fk_consent_history_consent_id_consents"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("consent_id", "number", name=op.f("pk_consent_history")),
    )
    # What is known of the records of before: that they were given, and which were withdrawn. `by` and `at` are words of SQL.
    op.execute(
        sa.text(
            'INSERT INTO consent_history (consent_id, number, state, "at", "by", evidence, change) '
            "SELECT id, 1, 'given', given_at, given_by, evidence, change FROM consents"
        )
    )
    op.execute(
        sa.text(
            'INSERT INTO consent_history (consent_id, number, state, "at", "by", evidence, change) '
            "SELECT id, 2, 'withdrawn', ended_at, 'subject', NULL, change FROM consents WHERE state = 'withdrawn'"
        )
    )


def _consent_notices() -> None:
    op.create_table(
        "consent_notices",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("current", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consent_notices")),
    )
    op.create_index(op.f("ix_consent_notices_dataset"), "consent_notices", ["dataset"], unique=False)
    op.create_table(
        "consent_notice_versions",
        sa.Column("notice_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("title", sa.JSON(), nullable=False),
        sa.Column("text", sa.JSON(), nullable=False),
        sa.Column("text_digest", sa.JSON(), nullable=False),
        sa.Column("purposes", sa.JSON(), nullable=False),
        sa.Column("recipients", sa.JSON(), nullable=False),
        sa.Column("legal_ground", sa.String(), nullable=False),
        sa.Column("covers_earlier", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["notice_id"], ["consent_notices.id"], name=op.f("fk_consent_notice_versions_notice_id_consent_notices")),
        sa.PrimaryKeyConstraint("notice_id", "number", name=op.f("pk_consent_notice_versions")),
    )


def _consent_imports() -> None:
    op.create_table(
        "consent_imports",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("chunk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.String(), nullable=False),
        sa.Column("last", sa.String(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "name", "chunk", name=op.f("pk_consent_imports")),
    )
