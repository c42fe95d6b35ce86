"""The tree of the audit log. Entries of before are sequenced when the first gateway of this version starts."""

from __future__ import annotations

from hashlib import sha256

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "audit_pending",
        sa.Column("number", NUMBER, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_pending")),
    )
    op.create_table(
        "audit_leaves",
        sa.Column("index", NUMBER, autoincrement=False, nullable=False),
        sa.Column("number", NUMBER, nullable=True),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("index", name=op.f("pk_audit_leaves")),
    )
    op.create_index(op.f("ix_audit_leaves_number"), "audit_leaves", ["number"])
    op.create_index(op.f("ix_audit_leaves_leaf_hash"), "audit_leaves", ["leaf_hash"])
    tree = op.create_table(
        "audit_tree",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("edge", sa.LargeBinary(), nullable=False),
        sa.Column("published", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_tree")),
    )
    op.bulk_insert(tree, [{"id": 1, "size": 0, "root": sha256(b"").digest(), "edge": b"", "published": 0}])
    op.execute("INSERT INTO audit_pending (number) SELECT number FROM audit_entries")
    _search_in_the_order_of_pages()


def _search_in_the_order_of_pages() -> None:
    """Indexes that end with the number; the leaf hash is found by `audit_leaves` from now on."""
    with op.batch_alter_table("audit_entries") as table:
        table.drop_constraint(op.f("uq_audit_entries_leaf_hash"), type_="unique")
    for name in ("kind", "actor", "organization", "provider", "consumer", "dataset", "contract"):
        op.drop_index(op.f(f"ix_audit_entries_{name}"), "audit_entries")
    _index(["kind"], "kind <> 'release'")
    for name in ("actor", "organization", "dataset", "contract", "purpose"):
        _index([name], None)
        _index(["kind", name], "kind <> 'release'")
    for name in ("provider", "consumer"):
        _index([name], f"{name} IS NOT NULL")
        _index(["kind", name], f"kind <> 'release' AND {name} IS NOT NULL")


def _index(names: list[str], condition: str | None) -> None:
    columns, some = [*names, "number"], sa.text(condition) if condition else None
    op.create_index(op.f("_".join(("ix_audit_entries", *columns))), "audit_entries", columns, postgresql_where=some, sqlite_where=some)
