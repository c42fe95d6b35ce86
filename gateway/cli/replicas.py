"""`exchange replicas`: who is live, what each has confirmed, how long barriers took."""

from __future__ import annotations

from gateway.cli.connection import AsJson, connected, show, show_list

COLUMNS = ("id", "state", "confirmed", "behind", "renewed_at", "incarnation", "fenced_by")


def replicas(as_json: AsJson = False) -> None:
    """List the replicas, and say how long the last barriers took. Needs the scope audit:read, or the role operator.

    Example: exchange replicas
    """
    with connected() as client:
        found = client.get("/v1/replicas")
    if as_json:
        show(found, as_json=True)
        return
    show_list(found["items"], COLUMNS, as_json=False)
    barriers = found["barriers"]
    if barriers["count"]:
        print(f"\nThe last {barriers['count']} barriers: {barriers['median_ms']} ms in the middle, {barriers['slowest_ms']} ms at most.")
