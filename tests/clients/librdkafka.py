"""A client of others: librdkafka, as confluent-kafka brings it, fetches a token by `sasl.oauthbearer.method=oidc`.

Input, JSON: {issuer, client_id, client_secret, scope}; output: {token}, the one that it showed a broker: here a socket that speaks as
much of Kafka's protocol as it takes to be shown it. Runs in an environment of its own.
"""

import json
import socket
import struct
import sys
import threading

from confluent_kafka import Producer

API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE = 18, 17, 36
OFFERED = ((API_VERSIONS, 0, 0), (SASL_HANDSHAKE, 0, 1), (SASL_AUTHENTICATE, 0, 1))
UNSUPPORTED_VERSION = 35


def read_request(connection: socket.socket) -> tuple[int, int, int, bytes]:
    """Key, version, correlation id and all of the next request (Kafka protocol guide, "Request header")."""
    (length,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
    request = connection.recv(length, socket.MSG_WAITALL)
    return *struct.unpack(">hhi", request[:8]), request


def api_versions(version: int) -> bytes:
    """Version 0 of the answer, whichever was asked for, as KIP-511 says."""
    error = 0 if version == 0 else UNSUPPORTED_VERSION
    return struct.pack(">hi", error, len(OFFERED)) + b"".join(struct.pack(">hhh", *each) for each in OFFERED)


def handshake() -> bytes:
    mechanism = b"OAUTHBEARER"
    return struct.pack(">hih", 0, 1, len(mechanism)) + mechanism


def shown_token(listener: socket.socket) -> str:
    """The bearer token of the first client that authenticates (RFC 7628 section 3.1)."""
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            while True:
                key, version, correlation, request = read_request(connection)
                if key == SASL_AUTHENTICATE:
                    return request.partition(b"auth=Bearer ")[2].partition(b"\x01")[0].decode("ascii")
                answer = struct.pack(">i", correlation) + (api_versions(version) if key == API_VERSIONS else handshake())
                connection.sendall(struct.pack(">i", len(answer)) + answer)


given = json.load(sys.stdin)
with socket.create_server(("127.0.0.1", 0)) as broker:
    broker.settimeout(20)
    producer = Producer(
        {
            "bootstrap.servers": f"127.0.0.1:{broker.getsockname()[1]}",
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": given["client_id"],
            "sasl.oauthbearer.client.secret": given["client_secret"],
            "sasl.oauthbearer.scope": given["scope"],
            "sasl.oauthbearer.token.endpoint.url": f"{given['issuer']}/oauth/token",
        }
    )
    polling = threading.Event()
    poll = threading.Thread(target=lambda: [producer.poll(0.1) for _ in iter(polling.is_set, True)], daemon=True)
    poll.start()
    token = shown_token(broker)
    polling.set()
    poll.join()
json.dump({"token": token}, sys.stdout)
