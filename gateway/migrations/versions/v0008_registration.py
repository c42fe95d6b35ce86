"""Registration: organizations that are asked for, registration tokens, clients that manage themselves, credentials that overlap."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("organizations", sa.Column("intent", sa.String(), nullable=True))
    op.add_column("organizations", sa.Column("domain", sa.String(), nullable=True))
    for name in ("secret_id", "jwks_uri", "assertion_alg", "previous_secret_key_id", "previous_secret_id"):
        op.add_column("clients", sa.Column(name, sa.String(), nullable=True))
    op.add_column("clients", sa.Column("previous_secret_hash", sa.LargeBinary(), nullable=True))
    op.add_column("clients", sa.Column("previous_jwks", sa.JSON(), nullable=True))
    op.add_column("clients", sa.Column("previous_until", MOMENT, nullable=True))
    op.add_column("clients", sa.Column("dpop_bound", sa.Boolean(), nullable=False, server_default=sa.false()))
    # Secrets of before have no name of their own yet: the client's serves, as each has one.
    op.execute("UPDATE clients SET secret_id = id WHERE secret_hash IS NOT NULL")
    _requests()
    _tokens()
    op.create_table(
        "client_registrations",
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("registration_token_id", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("previous_token_hash", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_client_registrations_client_id_clients"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_client_registrations")),
    )


def _requests() -> None:
    op.create_table(
        "organization_requests",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("contact", sa.String(), nullable=False),
        sa.Column("intent", sa.String(), nullable=False),
        sa.Column("domain", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=True),
        sa.Column("claim_hash", sa.LargeBinary(), nullable=False),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("approved_at", MOMENT, nullable=True),
        sa.Column("claimed_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization_requests")),
    )
    op.create_index(op.f("ix_organization_requests_expires_at"), "organization_requests", ["expires_at"], unique=False)


def _tokens() -> None:
    op.create_table(
        "registration_tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("created_by", sa.String(), nullable=True),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_registration_tokens_organization_id_organizations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registration_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_registration_tokens_hash")),
    )
    op.create_index(op.f("ix_registration_tokens_organization_id"), "registration_tokens", ["organization_id"], unique=False)
    op.create_index(op.f("ix_registration_tokens_expires_at"), "registration_tokens", ["expires_at"], unique=False)
