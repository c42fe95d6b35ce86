"""The README and the demonstration, as a newcomer meets them: one demonstration is started, and what both say is tried on it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from connectors.sources import transit_feed

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
UP = "Ctrl-C ends it."
STORY_SECONDS = 150


@dataclass(frozen=True, slots=True)
class Demonstration:
    folder: Path
    told: str

    def shell(self, lines: str) -> subprocess.CompletedProcess[str]:
        """Run lines in the folder as a person would, and stop at the first that fails."""
        words = ["bash", "-euo", "pipefail", "-c", lines]
        return subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=False, timeout=120, env=environment())


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("EXCHANGE_")} | {"LC_ALL": "C.UTF-8"}


def url_of(output: Path) -> str:
    found = re.search(r"at (http://127\.0\.0\.1:\d+)", output.read_text("utf-8"))
    assert found
    return found.group(1)


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstration]:
    folder = tmp_path_factory.mktemp("clone")
    (folder / ".venv").symlink_to(sys.prefix)
    output = folder / "told.txt"
    with output.open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "demo"],
            cwd=folder,
            env=environment() | {"PYTHONPATH": str(ROOT)},
            stdout=told,
            stderr=told,
        )
    try:
        deadline = time.monotonic() + STORY_SECONDS
        while UP not in output.read_text("utf-8") and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        yield Demonstration(folder, output.read_text("utf-8"))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, "Ctrl-C ends the demonstration well"
        with pytest.raises(httpx2.ConnectError):  # and the exchange with it
            httpx2.get(f"{url_of(output)}/livez")
    finally:
        process.kill()
        process.wait()


def test_the_story_is_told_to_its_end_and_every_claim_holds(demonstration: Demonstration) -> None:
    assert "Every claim held." in demonstration.told, demonstration.told[-4000:]
    assert UP in demonstration.told
    assert demonstration.told.count("  true  ") >= 25


def test_the_file_of_variables_is_its_owners_alone(demonstration: Demonstration) -> None:
    assert (demonstration.folder / "demo-data" / "env").stat().st_mode & 0o077 == 0
    assert (demonstration.folder / "demo-data").stat().st_mode & 0o077 == 0


def test_each_line_that_the_demonstration_prints_works_when_pasted(demonstration: Demonstration) -> None:
    lines = [
        line.strip()
        for line in demonstration.told.splitlines()
        if line.startswith(("  curl ", "  echo ", "  cat ", "  .venv/bin/exchange ", "  EXCHANGE_ADDRESS="))
    ]
    assert len(lines) >= 12
    for line in lines:
        if line.endswith(" &"):  # it stays in the background of a terminal
            assert "replica 1: " in _watched(demonstration, line)
            continue
        ran = demonstration.shell(f". demo-data/env\n{line}")
        assert ran.returncode == 0, (line, ran.stderr)
        assert ran.stdout, line
        assert ("/problems/" in ran.stdout) == ("advertising" in line), (line, ran.stdout[:500])


def test_each_page_that_the_demonstration_names_is_there(demonstration: Demonstration) -> None:
    pages = re.findall(r"^  (http://\S+)  ", demonstration.told, re.MULTILINE)
    assert len(pages) >= 5
    for page in pages:
        assert httpx2.get(page, headers={"Accept": "text/html"}, follow_redirects=True).status_code == 200, page


def test_after_the_withdrawal_that_is_pasted_the_resident_is_heard_of_no_more(demonstration: Demonstration) -> None:
    """Whether this test or the one before has pasted it: a code may be used again."""
    (withdraw,) = [line.strip() for line in demonstration.told.splitlines() if line.endswith('/v1/consents/withdraw"')]
    (watch,) = [line.strip() for line in demonstration.told.splitlines() if line.endswith(" &")]
    assert '"state":"withdrawn"' in demonstration.shell(f". demo-data/env\n{withdraw}").stdout
    assert _watched(demonstration, watch) == ""


def _watched(demonstration: Demonstration, line: str) -> str:
    """What a line that goes on for a minute in the background shows in the foreground in six seconds."""
    shorter = line.removesuffix(" &").replace("--seconds 60", "--seconds 6")
    assert shorter != line
    return demonstration.shell(f". demo-data/env\n{shorter}").stdout


def test_the_shell_blocks_of_the_readme_work_one_after_another(demonstration: Demonstration) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 8
    ran = demonstration.shell("\n".join(f"{block}\necho '=== {number}'" for number, block in enumerate(blocks)))
    assert ran.returncode == 0, ran.stderr
    outputs = re.split(r"=== \d+\n", ran.stdout)[: len(blocks)]
    for block, output in zip(blocks, outputs, strict=True):
        assert ("/problems/" in output) == ('"advertising"' in block), (block, output[:500])
        assert output.strip() or "client.curl" in block, block
    assert "council" in outputs[0]
    assert '"trip_id"' in outputs[3]
    assert '"kind":"release"' in outputs[6].replace(" ", "")
    assert '"state":"withdrawn"' in outputs[7].replace(" ", "")
    (by_openssl,) = [output for block, output in zip(blocks, outputs, strict=True) if "openssl pkeyutl" in block]
    assert '"trip_id"' in by_openssl


def test_the_python_blocks_of_the_readme_work(demonstration: Demonstration) -> None:
    """After the shell blocks: the second uses the registration token that they leave."""
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    told = []
    for block in blocks:
        (demonstration.folder / "tour.py").write_text(block)
        ran = demonstration.shell(f". demo-data/env\nPYTHONPATH={ROOT} .venv/bin/python tour.py")
        assert ran.returncode == 0, ran.stderr
        told.append(ran.stdout.splitlines())
    stops, trips = told
    assert len(stops) == 4089
    assert len(trips) == len(list(transit_feed.events()))
    assert len(blocks[1].strip().splitlines()) <= 15, "the first pull that is bound to a key takes fifteen lines"


def test_the_commands_of_the_readme_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for command in re.findall(r"`make (\w+)", README):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")], ids=lambda path: path.name
)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target
