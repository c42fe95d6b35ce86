"""`make engines`: Kafka, PostgreSQL and OPA for development and for `make bench`, until Ctrl-C.

Prints the `EXCHANGE_...` settings to export. OPA starts once `exchange setup` has made the key that it trusts. What the
engines hold is new at each start and gone at the end.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from gateway.keys import read_keys
from tests.engines import EngineFailed, Kafka, Opa, Postgres, install
from tests.engines.process import free_port


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="exchange-engines-"))
        folder.chmod(0o755)
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            _run(folder, ending)
        except KeyboardInterrupt:
            _say("Stopping ...")
        except (EngineFailed, install.NotInstalled) as error:
            _say(str(error))
            return 1
    return 0


def _run(folder: Path, ending: ExitStack) -> None:
    kafka = Kafka(install.kafka_jars(), folder / "kafka")
    postgres = Postgres(install.postgres_binaries(), folder / "postgres", fsync=True)
    for engine in (kafka, postgres):
        ending.callback(engine.kill)
        engine.start()
        _say(f"{type(engine).__name__} runs.")
    token, admin_port = secrets.token_urlsafe(24), free_port()
    admin_url = f"http://127.0.0.1:{admin_port}"
    data_dir = folder / "exchange"
    opa: Opa | None = None
    opa_port = free_port()
    settings = {
        "ENVIRONMENT": "development",
        "DATA_DIR": data_dir,
        "DATABASE_URL": postgres.url(postgres.create_database()),
        "LOG_URL": kafka.url,
        "POLICY_URL": f"http://127.0.0.1:{opa_port}",
        "POLICY_TOKEN": token,
        "ADMIN_PORT": admin_port,
    }
    for name, value in settings.items():
        print(f"export EXCHANGE_{name}='{value}'", flush=True)
    _say("Export these in another shell, then run `exchange setup`: OPA starts when the key file is there. Ctrl-C ends all.")
    while True:
        time.sleep(0.2)
        if opa is None and (data_dir / "keys.json").exists():
            key = read_keys(data_dir / "keys.json").signing["policy_bundle"]
            opa = Opa(install.opa_binary(), admin_url=admin_url, token=token, public_key=key.as_pem(private=False).decode(), port=opa_port)
            ending.enter_context(opa)
            _say("Opa runs.")
        for server in (kafka, postgres, opa):
            if server is not None and not server.running:
                raise EngineFailed(f"{type(server).__name__} ended by itself; its log is in {folder}.")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
