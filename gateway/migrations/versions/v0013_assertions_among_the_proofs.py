"""Assertions of clients are spent where proofs are, by their hash, so that both are written together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    from gateway.identity.client_authentication import digest_of_assertion

    spent = sa.table("used_assertions", sa.column("client_id"), sa.column("jti"), sa.column("expires_at", MOMENT))
    proofs = sa.table("used_proofs", sa.column("digest", sa.LargeBinary), sa.column("expires_at", MOMENT))
    connection = op.get_bind()
    for row in connection.execute(sa.select(spent)).all():
        digest = digest_of_assertion(row.client_id, row.jti)
        connection.execute(proofs.insert().values(digest=digest, expires_at=row.expires_at))
    op.drop_table("used_assertions")
