"""Our own rules for a candidate: what every module must say of itself, and ways of failing open that can be read off it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.access.candidate.syntax import Definition, Module, walk
from gateway.access.vetting import Finding

ENTRYPOINT_FILE = "main/main.rego"
SETS = frozenset({"deny", "grounds", "obligations"})
"""What the checks contribute: sets, which `main` collects."""
_TITLE = re.compile(r"^# title: \S", re.MULTILINE)
_GROUND = re.compile(r"^#   legal_ground: \S", re.MULTILINE)
_ENTRY = re.compile(r"^# entrypoint: true$", re.MULTILINE)


def house_rules(modules: list[Module], tests: Mapping[str, str]) -> list[Finding]:
    """What our rules find in the modules that decide; `tests` are the others, path to text."""
    findings = [*_entrypoint(modules)]
    for module in modules:
        findings += _test_beside(module, tests)
        findings += _metadata(module)
        for definition in module.definitions:
            findings += _default(module, definition)
            findings += _set(module, definition)
            findings += _negations(module, definition)
            findings += _empty_proof(module, definition)
    return findings


def _entrypoint(modules: list[Module]) -> Iterator[Finding]:
    found = [(module, match) for module in modules for match in _ENTRY.finditer(module.text)]
    if not any(module.file == ENTRYPOINT_FILE for module, _ in found):
        yield Finding(
            ENTRYPOINT_FILE, 1, "nothing here is the entrypoint", "Write `# entrypoint: true` into the METADATA of the rule `decision`."
        )
    for module, match in [(module, match) for module, match in found if module.file != ENTRYPOINT_FILE] + [
        pair for pair in found if pair[0].file == ENTRYPOINT_FILE
    ][1:]:
        line = module.text[: match.start()].count("\n") + 1
        yield Finding(module.file, line, "a second entrypoint", "The exchange asks exchange.main.decision alone: take this line out.")


def _test_beside(module: Module, tests: Mapping[str, str]) -> Iterator[Finding]:
    beside = module.file.replace(".rego", "_test.rego")
    if not re.search(r"^test_\w+ if\b", tests.get(beside, ""), re.MULTILINE):
        yield Finding(module.file, 1, "has no test beside it", f"Write {beside}, with a rule `test_... if` for each thing that it says.")


def _metadata(module: Module) -> Iterator[Finding]:
    package = module.comment_above(module.package_line)
    if not (package.startswith("# METADATA\n") and _TITLE.search(package)):
        yield Finding(
            module.file, module.package_line, "the package has no METADATA with a title", "Write `# METADATA` and `# title: ...`."
        )
    described: set[str] = set()
    for each in module.definitions:
        comment = module.comment_above(each.line)
        own = comment.startswith("# METADATA\n") and _TITLE.search(comment) is not None
        if (each.name not in described or each.gives_reason) and not own:
            hint = "Above it write `# METADATA` and `# title: ...`: one sentence that a person without Rego understands."
            yield Finding(module.file, each.line, f"{each.name} has no METADATA with a title", hint)
        ground = _GROUND.search(comment) or (not each.gives_reason and _GROUND.search(package))
        if (each.name not in described or each.gives_reason) and own and not ground:
            hint = "Below its title write `# custom:` and `#   legal_ground: ...`; what gives no reason may rest on its package's."
            yield Finding(module.file, each.line, f"{each.name} names no legal ground", hint)
        described.add(each.name)


def _default(module: Module, definition: Definition) -> Iterator[Finding]:
    if definition.kind == "Default" and definition.value not in (False, None, "empty"):
        hint = "A default is what holds when no rule has looked: false, null or empty."
        yield Finding(module.file, definition.line, f"fails open by a default: {definition.name} holds where nothing was found", hint)


def _set(module: Module, definition: Definition) -> Iterator[Finding]:
    if module.file.startswith("checks/") and definition.name in SETS and definition.kind != "Set":
        hint = f"Write `{definition.name} contains ... if`: a single value hides the others, and an object is read by its values."
        yield Finding(module.file, definition.line, f"fails open by a partial rule: {definition.name} is no set", hint)


def _negations(module: Module, definition: Definition) -> Iterator[Finding]:
    for kind, node in walk(definition.node):
        if kind == "NotExpr" and _reads_input(node):
            line = int(node["span"]["line"])
            hint = "Where the fact is missing this is true. Say what the fact must be, without `not`."
            yield Finding(module.file, line, "fails open by negation: `not` stands before a fact", hint)


def _reads_input(node: Mapping[str, Any]) -> bool:
    return any(kind == "Var" and inner.get("value") == "input" for kind, inner in walk(node))


def _empty_proof(module: Module, definition: Definition) -> Iterator[Finding]:
    """What is proven by an empty set, or by nothing, is proven by facts that are missing too."""
    if definition.name not in {"proven", "permitted"} or definition.kind == "Default":
        return
    for body in definition.bodies:
        if all(_is_emptiness(statement["literal"], definition.names_of_sets) for statement in body):
            hint = "Ask for something that must be there: an empty set is no proof, for a missing fact makes it empty too."
            yield Finding(module.file, definition.line, f"fails open by an empty set: {definition.name} asks for nothing", hint)
            return
    if not definition.bodies:
        hint = "Say under which facts it holds."
        yield Finding(module.file, definition.line, f"fails open by a default: {definition.name} holds whatever the facts are", hint)


def _is_emptiness(literal: Mapping[str, Any], sets: frozenset[str]) -> bool:
    """`count(some_set) == 0`, of a set that rules fill."""
    compared = literal.get("Expr", {}).get("expr", {}).get("BoolExpr", {})
    if compared.get("op") != "Eq" or compared["rhs"].get("Number", {}).get("value") != 0:
        return False
    call = compared["lhs"].get("Call", {})
    counted = call.get("params", [{}])[0] if call.get("fcn", {}).get("Var", {}).get("value") == "count" else {}
    return str(counted.get("Var", {}).get("value")) in sets
