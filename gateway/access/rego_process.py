"""The child process of the embedded engine, seen from the gateway: frames on two pipes, each with a deadline."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gateway.access.decision import PolicyUnavailable

LOAD_SECONDS = 5.0
MAX_FRAME_BYTES = 64 * 1024 * 1024
_CHILD = Path(__file__).with_name("embedded_child.py")
_MISSING = (
    "The embedded policy engine needs gordon-to-regorus, which is not installed (it has wheels for glibc 2.34 or later, macOS and "
    "64-bit Windows). Install civic-exchange[server], or set EXCHANGE_POLICY_URL to an OPA server."
)


def require_library() -> None:
    """Raise `PolicyUnavailable`, with what to do, if the library of the embedded engine is not installed."""
    if importlib.util.find_spec("regorus") is None:
        raise PolicyUnavailable(_MISSING)


@dataclass(frozen=True, slots=True)
class Failed:
    """An evaluation that failed, and what the engine says of it. That may hold facts: for candidates alone."""

    says: str


class RegoProcess:
    """A process that has loaded one revision. Not thread-safe. Any exception leaves it unusable: `end` it."""

    def __init__(self, program: Path = _CHILD) -> None:
        # -I: neither the environment nor the working directory decide what is imported. A session of its own: Ctrl-C is
        # for the gateway, which then ends the child. Its stderr would show panics, with the facts in them.
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"RUST_BACKTRACE": "0"},
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    def loaded(cls, modules: Mapping[str, str], data: Mapping[str, Any]) -> tuple[Self, list[dict[str, Any]]]:
        """A new process that holds these modules and data, and the modules' syntax trees. Raises `PolicyUnavailable` with file and line."""
        process = cls()
        try:
            answer = process._ask({"load": {"modules": dict(modules), "data": data}}, LOAD_SECONDS)
            if "error" in answer:
                raise PolicyUnavailable(str(answer["error"]).strip())
            return process, json.loads(answer["trees"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            process.end()
            raise PolicyUnavailable("the policy engine could not read these modules") from error
        except PolicyUnavailable:
            process.end()
            raise

    def evaluate(self, rule: str, facts: Mapping[str, Any], seconds: float) -> Any:
        """The value of `rule` with `facts` as input. Raises `PolicyUnavailable`, after `seconds` at the latest."""
        try:
            answer = self._ask({"rule": rule, "input": facts}, seconds)
            if "error" in answer:
                raise PolicyUnavailable("the policy failed on these facts")
            return json.loads(answer["value"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise PolicyUnavailable("the policy engine answered rubbish") from error

    def evaluate_all(self, rule: str, inputs: Sequence[Mapping[str, Any]], seconds: float) -> list[Any]:
        """The value of `rule` for each input; `Failed` where one failed. Raises `PolicyUnavailable`, after `seconds` at the latest."""
        try:
            answer = self._ask({"rule": rule, "inputs": inputs}, seconds)
            return [Failed(str(each["error"])) if "error" in each else json.loads(each["value"]) for each in answer["values"]]
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise PolicyUnavailable("the policy engine answered rubbish") from error

    def test(self, rules: Sequence[str], seconds: float) -> tuple[dict[str, Any], dict[str, list[int]]]:
        """The value of each of these rules, and the lines by file that none has reached. Raises `PolicyUnavailable`."""
        try:
            answer = self._ask({"tests": rules}, seconds)
            return answer["tests"], answer["missed"]
        except (KeyError, TypeError) as error:
            raise PolicyUnavailable("the policy engine answered rubbish") from error

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        body = json.dumps(request, allow_nan=False).encode("utf-8")
        try:
            self._send(len(body).to_bytes(4, "big") + body, deadline)
            length = int.from_bytes(self._receive(4, deadline), "big")
            if length > MAX_FRAME_BYTES:
                raise PolicyUnavailable("the policy engine answered rubbish")
            answer: dict[str, Any] = json.loads(self._receive(length, deadline))
        except OSError as error:
            raise PolicyUnavailable("the policy engine has ended") from error
        return answer

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            _wait(self._to, select.POLLOUT, deadline)
            rest = rest[os.write(self._to, rest) :]

    def _receive(self, count: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            _wait(self._from, select.POLLIN, deadline)
            part = os.read(self._from, count - len(parts))
            if not part:
                raise PolicyUnavailable("the policy engine has ended")
            parts += part
        return bytes(parts)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0, int((deadline - time.monotonic()) * 1000))):
        raise PolicyUnavailable("the policy engine did not answer in time")
