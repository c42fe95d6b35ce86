"""Apache Kafka 4: one node, from `deploy/kafka`."""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path

from tests.engines.process import DEPLOY, EngineFailed, Process, free_port, render

START_TIMEOUT_S = 90
# Warnings, and the one line that tells that the broker takes requests.
LOGGING = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info")


class Kafka:
    """A broker whose data and ports stay while it is killed and started again. `libs` holds the jars, `folder` all else."""

    def __init__(self, libs: Path, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._java = ("java", *LOGGING, "-cp", f"{libs}/*")
        self._properties = folder / "server.properties"
        self._process = Process("Kafka", (*self._java, "-Xmx512m", "kafka.Kafka", self._properties), log=folder / "kafka.log")

    @property
    def bootstrap(self) -> str:
        """`host:port`, as Kafka's clients take it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The value of `EXCHANGE_LOG_URL`."""
        return f"kafka://{self.bootstrap}"

    @property
    def running(self) -> bool:
        return self._process.running

    def start(self) -> None:
        """Start, or start again on what is on disk. Raises `EngineFailed`."""
        if not self._properties.exists():
            self._format()
        self._process.start(lambda log: "Kafka Server started" in log, timeout_s=START_TIMEOUT_S)

    def stop(self) -> None:
        """Shut down in an orderly way."""
        self._process.stop()

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()

    def _format(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        template = DEPLOY / "kafka" / "server.properties"
        render(
            template,
            self._properties,
            KAFKA_PORT=self.port,
            KAFKA_CONTROLLER_PORT=free_port(),
            KAFKA_DATA_DIR=self._folder / "data",
        )
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode("ascii")
        command = [*self._java, "kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster}", "-c", str(self._properties)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self._properties.unlink()
            raise EngineFailed(f"Kafka's storage could not be formatted:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
