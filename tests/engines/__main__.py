"""`make engines`: Kafka, PostgreSQL and OPA for development, for `make bench` and the demonstration, until Ctrl-C.

Prints the `EXCHANGE_...` settings to export; further replicas of the same exchange have their own, in the order of the lines. OPA
starts, once for each replica, when `exchange setup` has made the key that it trusts. What the engines hold is new at each start and
gone at the end.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from gateway.keys import read_keys
from gateway.supervise import die_with
from tests.engines import EngineFailed, Kafka, Opa, Postgres, install
from tests.engines.process import free_port

Settings = dict[str, str]


def main(words: Sequence[str]) -> int:
    asked = _parser().parse_args(words)
    if asked.child_of:
        die_with(asked.child_of)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="exchange-engines-"))
        folder.chmod(0o755)
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            _run(folder, ending, asked.replicas, as_json=asked.json)
        except KeyboardInterrupt:
            _say("Stopping ...")
        except (EngineFailed, install.NotInstalled) as error:
            _say(str(error))
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tests.engines", description="Kafka, PostgreSQL and OPA, until Ctrl-C.")
    parser.add_argument("--replicas", type=int, default=1, help="for so many gateways of one exchange, each with an OPA of its own")
    parser.add_argument("--json", action="store_true", help="print the settings as one line, an array with an object for each replica")
    parser.add_argument("--child-of", type=int, default=0, help="end when this process, which has started this one, has ended")
    return parser


def _run(folder: Path, ending: ExitStack, replicas: int, *, as_json: bool) -> None:
    kafka = Kafka(install.kafka_jars(), folder / "kafka")
    postgres = Postgres(install.postgres_binaries(), folder / "postgres", fsync=True)
    servers: list[Kafka | Postgres | Opa] = [kafka, postgres]
    for engine in (kafka, postgres):
        ending.callback(engine.kill)
        engine.start()
        _say(f"{type(engine).__name__} runs.")
    settings = _settings(folder, kafka, postgres, replicas)
    _print(settings, as_json=as_json)
    _say("Export these in another shell, then run `exchange setup`: OPA starts when the key file is there. Ctrl-C ends all.")
    key_file = Path(settings[0]["EXCHANGE_KEY_FILE"])
    while True:
        time.sleep(0.2)
        if len(servers) == 2 and key_file.exists():
            key = read_keys(key_file).signing["policy_bundle"].as_pem(private=False).decode()
            servers += [ending.enter_context(_opa(one, key)) for one in settings]
            _say("Opa runs.")
        for server in servers:
            if not server.running:
                raise EngineFailed(f"{type(server).__name__} ended by itself; its log is in {folder}.")


def _settings(folder: Path, kafka: Kafka, postgres: Postgres, replicas: int) -> list[Settings]:
    """Of each replica: all but ports and the data directory are the same."""
    shared = {
        "ENVIRONMENT": "development",
        "KEY_FILE": folder / "exchange" / "keys.json",
        "AUDIT_DIR": folder / "exchange" / "audit",
        "DATABASE_URL": postgres.url(postgres.create_database()),
        "LOG_URL": kafka.url,
        "POLICY_TOKEN": secrets.token_urlsafe(24),
    }
    own = (
        {
            "DATA_DIR": folder / ("exchange" if number == 1 else f"exchange-{number}"),
            "POLICY_URL": f"http://127.0.0.1:{free_port()}",
            "ADMIN_PORT": free_port(),
        }
        for number in range(1, replicas + 1)
    )
    return [{f"EXCHANGE_{name}": str(value) for name, value in (shared | each).items()} for each in own]


def _print(settings: Sequence[Settings], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(settings), flush=True)
        return
    for number, one in enumerate(settings, start=1):
        if number > 1:
            print(f"# replica {number}; give it EXCHANGE_ISSUER of the first, and an EXCHANGE_PORT of its own")
        for name, value in one.items():
            print(f"export {name}='{value}'", flush=True)


def _opa(settings: Settings, public_key: str) -> Opa:
    return Opa(
        install.opa_binary(),
        admin_url=f"http://127.0.0.1:{settings['EXCHANGE_ADMIN_PORT']}",
        token=settings["EXCHANGE_POLICY_TOKEN"],
        public_key=public_key,
        port=int(settings["EXCHANGE_POLICY_URL"].rpartition(":")[2]),
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
