"""What a candidate refers to: facts that exist, rules that exist, and none of them by way of itself."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.access.bundle import NAME
from gateway.access.candidate.syntax import Definition, Module, Node, dotted, walk
from gateway.access.vetting import Finding
from gateway.resources import SCHEMAS

SHEETS = f"data.{NAME}.rules"


def references(modules: list[Module]) -> list[Finding]:
    """References to facts and rules that are not there, and rules that need themselves."""
    known = {f"data.{module.package}": module for module in modules}
    findings: list[Finding] = []
    for module in modules:
        findings += _imports(module, known)
        for definition in module.definitions:
            for line, reference in _dotted_references(definition):
                if reference.startswith("input.") and not _is_fact(reference):
                    hint = "The facts and their names stand in schemas/policy-input.json; a fact that is not there is never true."
                    findings.append(Finding(module.file, line, f"fails open by a missing field: {reference} is no fact", hint))
                elif (target := _absolute(module, reference)) is not None and not _exists(target, known):
                    hint = "Look at the spelling of package and rule: what does not exist is silently undefined."
                    findings.append(Finding(module.file, line, f"{reference} names nothing", hint))
    return findings or list(_circles(modules))


def _imports(module: Module, known: Mapping[str, Module]) -> Iterator[Finding]:
    for name, target in module.imports.items():
        if target.startswith("data.") and not _exists(target, known):
            hint = "Look at the spelling of the package: what does not exist is silently undefined."
            yield Finding(module.file, module.import_lines[name], f"{target} names nothing", hint)


def _dotted_references(definition: Definition) -> Iterator[tuple[int, str]]:
    """The longest references of plain names, with their lines."""
    inner: set[int] = set()
    for kind, node in walk(definition.node):
        if kind == "RefDot" and id(node) not in inner:
            reference = dotted({"RefDot": node})
            below = node
            while "RefDot" in below["refr"]:
                below = below["refr"]["RefDot"]
                inner.add(id(below))
            if reference is not None:
                yield int(node["span"]["line"]), reference


def _absolute(module: Module, reference: str) -> str | None:
    """The reference from `data` on, if it leads out of the module."""
    first, _, rest = reference.partition(".")
    if first == "data":
        return reference if rest.startswith(NAME) else None  # what is not ours is refused elsewhere
    if first in module.imports and module.imports[first].startswith("data."):
        return f"{module.imports[first]}.{rest}"
    return None


def _exists(target: str, known: Mapping[str, Module]) -> bool:
    if target == SHEETS or target.startswith(f"{SHEETS}."):
        return True
    if target in known or any(package.startswith(f"{target}.") for package in known):
        return True
    return any(
        target.startswith(f"{package}.") and target.removeprefix(f"{package}.").split(".")[0] in module.names
        for package, module in known.items()
    )


@functools.cache
def _facts() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((SCHEMAS / "policy-input.json").read_text("utf-8"))
    return document


@functools.cache
def _is_fact(reference: str) -> bool:
    found = [_facts()]
    for name in reference.split(".")[1:]:
        found = [schema["properties"][name] for each in found for schema in _resolved(each) if name in schema.get("properties", {})]
        if not found:
            return False
    return True


def _resolved(schema: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in schema:
        return _resolved(_facts()["$defs"][schema["$ref"].rsplit("/", 1)[-1]])
    if "anyOf" in schema:
        return [inner for each in schema["anyOf"] for inner in _resolved(each)]
    return [schema]


def _circles(modules: list[Module]) -> Iterator[Finding]:
    """Rules that need their own value. The embedded engine would end by it."""
    rules = {f"data.{module.package}.{each.name}": (module, each) for module in modules for each in reversed(module.definitions)}
    needs = {
        name: set().union(*(_needed(module, each, rules) for each in module.definitions if each.name == first.name))
        for name, (module, first) in rules.items()
    }
    done: set[str] = set()
    for name in needs:
        circle = _circle_from(name, needs, done)
        if circle:
            module, definition = rules[circle[0]]
            way = " -> ".join(each.removeprefix(f"data.{NAME}.") for each in [*circle, circle[0]])
            yield Finding(module.file, definition.line, f"a recursion: {way}", "A rule cannot need its own value: break the circle.")
            return


def _needed(module: Module, definition: Definition, rules: Mapping[str, Any]) -> set[str]:
    names = {str(node["value"]) for kind, node in walk(definition.node) if kind == "Var"} - _bound(definition.node)
    needed = {f"data.{module.package}.{name}" for name in names} & rules.keys()
    for _, reference in _dotted_references(definition):
        target = _absolute(module, reference)
        if target is not None:
            needed |= {name for name in rules if name == target or name.startswith(f"{target}.") or target.startswith(f"{name}.")}
    if _head_only(definition):
        needed -= {f"data.{module.package}.{definition.name}"}
    return needed


def _head_only(definition: Definition) -> bool:
    """True if the rule's own name stands in its head and nowhere else."""
    return sum(bool(kind == "Var" and node["value"] == definition.name) for kind, node in walk(definition.node)) <= 1


def _bound(node: Node) -> set[str]:
    """The names that the definition binds itself: a rule of that name is not meant."""
    bound: set[str] = set()
    for kind, inner in walk(node):
        if kind == "Func":
            bound |= {str(each["value"]) for name, each in walk(inner.get("args", [])) if name == "Var"}
        elif kind == "AssignExpr":
            bound |= {str(each["value"]) for name, each in walk(inner["lhs"]) if name == "Var"}
        elif kind == "SomeIn":
            bound |= {str(each["value"]) for part in ("key", "value") for name, each in walk(inner.get(part) or {}) if name == "Var"}
    return bound


def _circle_from(start: str, needs: Mapping[str, set[str]], done: set[str]) -> list[str]:
    way: list[str] = []
    waiting: list[tuple[str, int]] = [(start, 0)]
    while waiting:
        name, depth = waiting.pop()
        del way[depth:]
        if name in way:
            return way[way.index(name) :]
        if name in done:
            continue
        way.append(name)
        waiting += [(other, len(way)) for other in sorted(needs[name])]
    done.update(needs_below(start, needs))
    return []


def needs_below(start: str, needs: Mapping[str, set[str]]) -> set[str]:
    """All that a rule needs, itself included."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needs[name]
    return found
