"""What a token may be for, and which roles a client of the operating organization may hold."""

from __future__ import annotations

SCOPES = {
    "catalog:read": "Read datasets that are not public.",
    "catalog:write": "Register and change datasets, schema versions and offers of one's own organization.",
    "contracts:read": "Read contracts to which one's own organization is a party, and its notices.",
    "contracts:write": "Propose, sign, suspend, resume and end contracts; acknowledge notices.",
    "events:publish": "Publish events to datasets of one's own organization.",
    "events:read": "Receive events under a contract.",
    "consents:read": "Read consent records of datasets of one's own organization.",
    "consents:write": "Give and withdraw consent for persons in datasets of one's own organization.",
    "policies:read": "Read policy revisions and decisions.",
    "policies:write": "Write policy revisions.",
    "policies:approve": "Approve and activate policy revisions.",
    "audit:read": "Search the audit log: an auditor all of it, others what concerns their organization.",
    "organizations:write": "Make, change, approve and suspend organizations.",
    "clients:write": "Read API clients of one's own organization; the operator makes and changes them.",
}
"""Scope (RFC 6749 section 3.3) to what it is for."""

ROLES = ("operator", "privacy_officer", "auditor")
