"""What the embedded engine may be given: gates that a revision passes before it answers anything.

The embedded engine agrees with OPA on a part of Rego. A missing builtin raises only when it is reached, and some differ
without a word, so what is not known to agree is refused here, at activation. `test_vetting.py` runs every allowed builtin on both.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from gateway.access.bundle import NAME
from gateway.access.candidate.syntax import dotted
from gateway.access.decision import EngineRefused, PolicyUnavailable
from gateway.access.rego_process import RegoProcess, require_library
from gateway.resources import SCHEMAS

MAX_MODULES = 500
MAX_MODULE_BYTES = 256 * 1024
MAX_NESTING = 24
"""The parser's time doubles with each bracket within a bracket."""
MAX_INTEGER = 2**53

ALLOWED_BUILTINS = frozenset(
    {
        "abs",
        "array.concat",
        "array.slice",
        "concat",
        "contains",
        "count",
        "endswith",
        "indexof",
        "is_array",
        "is_boolean",
        "is_null",
        "is_number",
        "is_object",
        "is_set",
        "is_string",
        "lower",
        "max",
        "min",
        "object.get",
        "object.keys",
        "object.remove",
        "object.union",
        "regex.match",
        "replace",
        "round",
        "sort",
        "split",
        "sprintf",
        "startswith",
        "substring",
        "sum",
        "trim",
        "trim_prefix",
        "trim_suffix",
        "union",
        "upper",
    },
)
_KNOWN_NODES = frozenset(
    {
        "ArithExpr",
        "Array",
        "ArrayCompr",
        "AssignExpr",
        "BinExpr",
        "Bool",
        "BoolExpr",
        "Call",
        "Compr",
        "Default",
        "Every",
        "Expr",
        "Func",
        "Membership",
        "NotExpr",
        "Null",
        "Number",
        "Object",
        "ObjectCompr",
        "RawString",
        "RefBrack",
        "RefDot",
        "Set",
        "SetCompr",
        "SomeIn",
        "SomeVars",
        "Spec",
        "String",
        "UnaryExpr",
        "Var",
        "With",
    },
)
_ASK_NOBODY = "A policy asks nobody: what it may know comes as input (schemas/policy-input.json)."
_WHY_NOT = {
    "http": _ASK_NOBODY,
    "net": _ASK_NOBODY,
    "opa": "The environment is no fact: what a policy may know comes as input (schemas/policy-input.json).",
    "rand": "The same facts must give the same answer.",
    "time": "There is no clock but the input's: compare with input.at, as strings.",
    "uuid": "The same facts must give the same answer.",
}
"""By the first word of a builtin: why it is not allowed, and what to do."""
_KEEP_TO_THE_PART = "Keep to the part of Rego that both engines read alike (policies/README.md)."
_NO_CODE = re.compile(r'"(?:\\.|[^"\\\n])*"|`[^`]*`|#[^\n]*')
_FORMAT_VERB = re.compile(r"%(.?)")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a revision may not contain: `file` below `policies/`, `line` from 1, and a sentence.

    `hint` says what to do; of a rule sheet `pointer` says where in it.
    """

    file: str
    line: int
    message: str
    hint: str = ""
    pointer: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class RevisionRefused(EngineRefused):
    """The revision did not pass; `findings` says where and why."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings


def refuse_if(findings: list[Finding]) -> None:
    """Raise `RevisionRefused` if there are any."""
    if findings:
        raise RevisionRefused(findings)


def vet(modules: Mapping[str, str], sheets: Mapping[str, Any] | None = None) -> list[str]:
    """Everything that the gates find in a revision, as `file:line: sentence`. Parses in a child process with limits.

    `sheets` maps a dataset's slug to its rule sheet. Raises `PolicyUnavailable` if the embedded engine is not installed.
    """
    require_library()
    findings = [*vet_text(modules), *vet_sheets(sheets or {})]
    if not findings:
        try:
            process, trees = RegoProcess.loaded(modules, {})
        except PolicyUnavailable as error:
            return [str(error)]
        process.end()
        findings = vet_trees(trees)
    return [str(finding) for finding in findings]


def vet_text(modules: Mapping[str, str]) -> list[Finding]:
    """What must hold before a parser sees the modules: their number, size and nesting."""
    findings = [Finding("", 1, f"more than {MAX_MODULES} modules", "Put rules together.")] if len(modules) > MAX_MODULES else []
    for path, text in modules.items():
        if len(text.encode("utf-8")) > MAX_MODULE_BYTES:
            findings.append(Finding(path, 1, f"larger than {MAX_MODULE_BYTES} bytes", "Split it."))
        else:
            findings.extend(_too_deep(path, text))
    return findings


def vet_sheets(sheets: Mapping[str, Any]) -> list[Finding]:
    """Each rule sheet, by slug, fits `schemas/rule-sheet.json` and is named after its dataset."""
    findings = []
    for slug, sheet in sheets.items():
        file = f"rules/{slug}.json"
        for error in _sheet_schema().iter_errors(sheet):
            place = "/" + "/".join(str(step) for step in error.instance_path)
            findings.append(Finding(file, 1, f"{place}: {error.message}", "See schemas/rule-sheet.json.", place.rstrip("/")))
        if isinstance(sheet, dict) and sheet.get("dataset") != slug:
            findings.append(Finding(file, 1, "the sheet is of another dataset than its file's name says", f"Write `{slug}`."))
    return findings


def vet_trees(trees: list[dict[str, Any]]) -> list[Finding]:
    """What must hold of the syntax trees of all modules, as the embedded engine prints them (`get_ast_as_json`)."""
    return [finding for tree in trees for finding in _Module(tree).findings()]


@functools.cache
def _sheet_schema() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json.loads((SCHEMAS / "rule-sheet.json").read_text("utf-8")), offline=True)


def _too_deep(path: str, text: str) -> Iterator[Finding]:
    depth = 0
    code = _NO_CODE.sub(lambda found: "\n" * found.group().count("\n"), text)
    for number, line in enumerate(code.splitlines(), 1):
        for character in line:
            depth += (character in "([{") - (character in ")]}")
            if depth > MAX_NESTING:
                yield Finding(path, number, f"more than {MAX_NESTING} brackets within brackets", "Give the inner part a name.")
                return


class _Module:
    """One module's tree, and the walk over it."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.file = str(tree["source"]["file"])
        self.text = str(tree["source"]["contents"]).encode("utf-8")
        self.root = tree["ast"]
        self.nodes = list(_nodes(self.root["rules"]))
        self.imports = {self._import_name(entry) for entry in self.root["imports"]}
        self.functions = {dotted(node["refr"]) or "?" for kind, node in self.nodes if kind == "Func"}

    def findings(self) -> Iterator[Finding]:
        yield from self._package()
        yield from self._imports()
        yield from self._names()
        ours = {id(node["refr"]["Var"]) for kind, node in self.nodes if kind == "RefDot" and _is_our_root(node)}
        for kind, node in self.nodes:
            if kind not in _KNOWN_NODES:
                yield self._finding(node, f"the gate does not know {kind}")
            elif kind == "Call":
                yield from self._call(node)
            elif kind == "With":
                yield from self._replacement(node)
            elif kind == "Number" and not (isinstance(node["value"], int) and abs(node["value"]) <= MAX_INTEGER):
                yield self._finding(node, "numbers are integers up to 2^53")
            elif kind == "Var" and node["value"] == "data" and id(node) not in ours:
                # Beside our root stand the tokens of OPA's own door.
                yield self._finding(node, f"data is read below data.{NAME} only")

    def _package(self) -> Iterator[Finding]:
        expected = ".".join([NAME, *self.file.split("/")[:-1]])
        if dotted(self.root["package"]["refr"]) != expected:
            yield self._finding(self.root["package"], f"the folder is the package: this should be `package {expected}`")

    def _imports(self) -> Iterator[Finding]:
        for entry in self.root["imports"]:
            target = dotted(entry["refr"]) or ""
            if target != "rego.v1" and not target.startswith(f"data.{NAME}."):
                yield self._finding(entry, f"imports come from data.{NAME} only")

    def _names(self) -> Iterator[Finding]:
        for name in sorted((self.functions | self.imports) & {builtin.split(".")[0] for builtin in ALLOWED_BUILTINS}):
            yield self._finding(self.root["package"], f"{name} is the name of a builtin")
        for name in sorted(self.functions):
            if not name.isidentifier():
                yield self._finding(self.root["package"], "the name of a function is one word")

    def _call(self, node: dict[str, Any]) -> Iterator[Finding]:
        name = dotted(node["fcn"]) or "?"
        if name in self.functions or name.startswith(f"data.{NAME}.") or ("." in name and name.split(".")[0] in self.imports):
            return
        if name not in ALLOWED_BUILTINS:
            hint = _WHY_NOT.get(name.split(".")[0], "The list is ALLOWED_BUILTINS in gateway/access/vetting.py.")
            yield self._finding(node, f"{name} is not on the list of allowed builtins", hint)
        elif name == "regex.match":
            yield from self._pattern(node)
        elif name == "sprintf":
            yield from self._format(node)

    def _pattern(self, node: dict[str, Any]) -> Iterator[Finding]:
        pattern = _literal(node["params"][0])
        if pattern is None:
            yield self._finding(node, "a pattern is written where it is used")
        elif re.search(r"\\[a-zA-Z0-9]|\[:|\(\?", pattern):
            yield self._finding(node, "patterns have no \\d \\w \\s \\b, named classes or flags: the engines read them differently")

    def _format(self, node: dict[str, Any]) -> Iterator[Finding]:
        text = _literal(node["params"][0])
        if text is None or any(verb not in ("s", "d", "v", "%") for verb in _FORMAT_VERB.findall(text)):
            yield self._finding(node, "sprintf takes a literal with %s, %d and %v only")

    def _replacement(self, node: dict[str, Any]) -> Iterator[Finding]:
        if (dotted(node["refr"]) or "").split(".")[0] not in {"input", "data"}:
            yield self._finding(node, "`with` replaces input and data only, never a function")

    def _import_name(self, entry: dict[str, Any]) -> str:
        alias = entry.get("as")
        if alias:
            return self.text[alias["start"] : alias["end"]].decode("utf-8")
        return (dotted(entry["refr"]) or "").rsplit(".", 1)[-1]

    def _finding(self, node: dict[str, Any], message: str, hint: str = _KEEP_TO_THE_PART) -> Finding:
        return Finding(self.file, int(node.get("span", {}).get("line", 1)), message, hint)


def _nodes(root: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node as (kind, members). A node is printed as {Kind: {...}}; replacements are lists, given here the kind `With`."""
    waiting: list[object] = [root]
    while waiting:
        current = waiting.pop()
        if isinstance(current, list):
            waiting.extend(current)
        elif isinstance(current, dict):
            for name, value in current.items():
                if name[:1].isupper() and isinstance(value, dict):
                    yield name, value
                elif name == "with_mods":
                    yield from (("With", entry) for entry in value)
            waiting.extend(current.values())


def _is_our_root(node: dict[str, Any]) -> bool:
    inner = node["refr"].get("Var")
    return inner is not None and inner["value"] == "data" and node["field"][1] == NAME


def _literal(expression: dict[str, Any]) -> str | None:
    node = expression.get("String") or expression.get("RawString")
    return None if node is None else str(node["value"])
