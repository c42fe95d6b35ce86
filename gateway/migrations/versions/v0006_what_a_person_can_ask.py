"""What a person can ask: codes, sessions, disclosures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("subject_codes", "subject_sessions"):
        op.create_table(
            name,
            sa.Column("hash", sa.LargeBinary(), nullable=False),
            sa.Column("sref", sa.LargeBinary(), nullable=True),
            sa.Column("dataset", sa.String(), nullable=False),
            sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
            sa.ForeignKeyConstraint(["sref"], ["subjects.sref"], name=op.f(f"fk_{name}_sref_subjects"), ondelete="CASCADE"),
            sa.PrimaryKeyConstraint("hash", name=op.f(f"pk_{name}")),
        )
        op.create_index(op.f(f"ix_{name}_expires_at"), name, ["expires_at"], unique=False)
        op.create_index(op.f(f"ix_{name}_sref"), name, ["sref"], unique=False)
    op.create_table(
        "disclosures",
        sa.Column("sref", sa.LargeBinary(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("contract", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["sref"], ["subjects.sref"], name=op.f("fk_disclosures_sref_subjects"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sref", "day", "contract", "decision", name=op.f("pk_disclosures")),
    )
    op.create_index(op.f("ix_disclosures_day"), "disclosures", ["day"], unique=False)
