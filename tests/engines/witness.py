"""A stock witness (C2SP tlog-witness) that was not written here: `litewitness`, its key in an agent of its own."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from tests.engines.process import Process, free_port

NAME = "witness.example/w1"
START_TIMEOUT_S = 20


class LiteWitness:
    """Its port, key and memory stay while it is killed and started again. Needs `ssh-agent` (Debian's openssh-client)."""

    def __init__(self, programs: Path, folder: Path, name: str = NAME) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        # A socket's path is short.
        self._agent_folder = Path(tempfile.mkdtemp(prefix="wit-"))
        socket, key = self._agent_folder / "agent", folder / "key"
        self._agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env=os.environ | {"SSH_AUTH_SOCK": str(socket)})
        shown = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], check=True, capture_output=True, text=True).stdout
        self._public = b64decode(Path(f"{key}.pub").read_text("ascii").split()[1])[-32:]
        command: list[str | Path] = [programs / "litewitness", "-name", name, "-db", folder / "w.db", "-ssh-agent", socket]
        command += ["-key", shown.split()[1], "-listen", f"127.0.0.1:{self.port}"]
        self._process = Process("litewitness", command, log=folder / "witness.log")

    @property
    def vkey(self) -> str:
        material = b"\4" + self._public
        key_id = sha256(self.name.encode() + b"\n" + material).digest()[:4].hex()
        return f"{self.name}+{key_id}+{b64encode(material).decode()}"

    def start(self) -> None:
        """Raises `EngineFailed`."""
        self._process.start(lambda _log: self._answers(), timeout_s=START_TIMEOUT_S)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self.kill()
        self._agent.terminate()
        self._agent.wait(10)
        shutil.rmtree(self._agent_folder, ignore_errors=True)

    def trust(self, origin: str, vkey: str) -> None:
        """Take checkpoints of this log from now on. It must have been started once."""
        empty = b64encode(sha256(b"").digest()).decode()
        with closing(sqlite3.connect(self._folder / "w.db")) as database:
            database.execute("INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)", (origin, empty))
            database.execute("INSERT INTO key (origin, key) VALUES (?, ?)", (origin, vkey))
            database.commit()

    def seen(self, origin: str) -> int:
        """The size that it has cosigned last."""
        with closing(sqlite3.connect(self._folder / "w.db")) as database:
            (size,) = database.execute("SELECT tree_size FROM log WHERE origin = ?", (origin,)).fetchone()
        return int(size)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=1).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True
