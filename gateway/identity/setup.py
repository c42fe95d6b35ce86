"""The first organization and its operator: what `exchange setup` makes before anybody can call."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.errors import ExchangeError
from gateway.identity import clients, organizations
from gateway.identity.documents import check_line
from gateway.identity.models import Client, Organization
from gateway.identity.scopes import ROLES, SCOPES
from gateway.keys import Keys


def found(session: Session, keys: Keys, organization_name: str) -> tuple[Organization, Client, str]:
    """The operating organization, its operator client with all scopes and roles, and that client's secret, shown this once.

    Raises `already_exists` if an organization operates this exchange, `ValueError` for a name that is not one line of text.
    """
    if session.scalar(select(Organization.id).where(Organization.operates)) is not None:
        raise ExchangeError("already_exists", "This exchange has been set up.")
    if not 1 <= len(check_line(organization_name)) <= 200:
        raise ValueError("The name of the organization must have 1 to 200 characters.")
    organization = organizations.make(session, None, name=organization_name, kind="department", contact=None, operates=True)
    client, secret = clients.make(
        session,
        keys,
        None,
        organization,
        name="Operator",
        scopes=list(SCOPES),
        roles=ROLES,
        token_endpoint_auth_method="client_secret_basic",  # noqa: S106 - the name of a method
        jwks=None,
    )
    assert secret is not None
    return organization, client, secret
