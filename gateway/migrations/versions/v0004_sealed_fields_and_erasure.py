"""Sealed fields and erasure."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("sealed_pointers", sa.JSON(), nullable=False, server_default="[]"))
    op.create_table(
        "subject_keys",
        sa.Column("sref", sa.LargeBinary(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kek_id", sa.String(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["sref"], ["subjects.sref"], name=op.f("fk_subject_keys_sref_subjects"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sref", "dataset", name=op.f("pk_subject_keys")),
        sa.UniqueConstraint("id", name=op.f("uq_subject_keys_id")),
    )
    op.create_table(
        "erased_subjects",
        sa.Column("sref", sa.LargeBinary(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sref", name=op.f("pk_erased_subjects")),
    )
