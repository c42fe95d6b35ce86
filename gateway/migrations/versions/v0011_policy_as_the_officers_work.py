"""Revisions that persons draft, propose, approve and activate; their previews; what each engine made of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    # What is there by now, setup has installed.
    op.add_column("policy_revisions", sa.Column("installed", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("policy_revisions", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    for name in ("title", "based_on", "created_by", "proposed_by", "approved_by", "activated_by", "replaces"):
        op.add_column("policy_revisions", sa.Column(name, sa.String(), nullable=True))
    for name in ("proposed_at", "approved_at"):
        op.add_column("policy_revisions", sa.Column(name, MOMENT, nullable=True))
    for name in ("vetting", "affected", "problem"):
        op.add_column("policy_revisions", sa.Column(name, sa.JSON(), nullable=True))
    op.add_column("policy_revisions", sa.Column("approved_preview", sa.Integer(), nullable=True))
    op.add_column("policy_revisions", sa.Column("change", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("policy_revisions") as table:
        table.alter_column("installed", server_default=None)
        table.alter_column("version", server_default=None)
    _make_previews()
    _make_reports()
    _digest_again()


def _make_previews() -> None:
    op.create_table(
        "policy_previews",
        sa.Column("revision_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("beat_at", MOMENT, nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("against", sa.String(), nullable=False),
        sa.Column("contracts_digest", sa.String(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("problem", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["policy_revisions.id"], name=op.f("fk_policy_previews_revision_id_policy_revisions"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("revision_id", "number", name=op.f("pk_policy_previews")),
    )


def _make_reports() -> None:
    op.create_table(
        "policy_engine_reports",
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("revision_id", sa.String(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("says", sa.String(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_policy_engine_reports")),
    )


def _digest_again() -> None:
    """A revision is known by its bundle from now on; before, its digest was one of its files alone."""
    from gateway.access.archive import digest_of

    revisions = sa.table("policy_revisions", sa.column("id", sa.String), sa.column("files", sa.JSON), sa.column("digest", sa.String))
    connection = op.get_bind()
    for row in connection.execute(sa.select(revisions.c.id, revisions.c.files)).all():
        connection.execute(revisions.update().where(revisions.c.id == row.id).values(digest=digest_of(row.files)))
