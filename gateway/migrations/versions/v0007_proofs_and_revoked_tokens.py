"""Proofs of possession that were used, and tokens that were revoked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, key in (("used_proofs", sa.Column("digest", sa.LargeBinary())), ("revoked_tokens", sa.Column("id", sa.String()))):
        key.nullable = False
        op.create_table(
            name,
            key,
            sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
            sa.PrimaryKeyConstraint(key.name, name=op.f(f"pk_{name}")),
        )
        op.create_index(op.f(f"ix_{name}_expires_at"), name, ["expires_at"], unique=False)
