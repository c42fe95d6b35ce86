"""What every answer tells a browser: that it is nobody's frame, no script's source and no other type than it says (OWASP ASVS 5.0, V3.4).

There is no inline script anywhere; a page that needs a script or style names its own policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from gateway.database import now, rfc3339
from gateway.settings import Settings

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The policy of what is no page: it loads and runs nothing."""
PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""That of pages: files of ours, no inline script or style. `data:` are the small pictures within the style sheet."""
DOCUMENTATION = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI's: it sets styles, and runs no script that is not a file of ours."""
TWO_YEARS = 63_072_000
SECURITY_TXT_LIVES = timedelta(days=180)
"""RFC 9116 section 2.5.5 asks for less than a year."""


def security_headers(settings: Settings) -> Mapping[str, str]:
    """The headers of every answer, save those that the answer has of its own."""
    headers = {
        "Content-Security-Policy": NOTHING,
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
    if settings.issuer.startswith("https://"):
        headers["Strict-Transport-Security"] = f"max-age={TWO_YEARS}"
    return headers


def security_txt(settings: Settings) -> str | None:
    """The file of RFC 9116, good for half a year from today on; None without a contact, for it says nothing then."""
    if not settings.security_contact:
        return None
    expires = (now() + SECURITY_TXT_LIVES).replace(hour=0, minute=0, second=0, microsecond=0)
    lines = {
        "Contact": settings.security_contact,
        "Expires": rfc3339(expires),
        "Preferred-Languages": "en, fr",
        "Canonical": f"{settings.issuer}/.well-known/security.txt",
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items())
