"""The syntax trees of a candidate, as the embedded engine prints them, with what our rules ask of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition of a rule. `kind`: Default, Compr (a value), Set (`contains`), Func; `value` is that of a default."""

    name: str
    kind: str
    line: int
    node: Node
    bodies: Sequence[Sequence[Node]]
    gives_reason: bool
    value: Any = None
    names_of_sets: frozenset[str] = frozenset()
    """The sets of its module that rules fill."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module: its text, package, imports (name to what it stands for) and definitions in their order."""

    file: str
    text: str
    package: str
    package_line: int
    imports: Mapping[str, str]
    import_lines: Mapping[str, int]
    definitions: Sequence[Definition]
    lines: Sequence[str] = field(repr=False)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(definition.name for definition in self.definitions)

    def comment_above(self, line: int) -> str:
        """The comment that ends on the line before this one, with its line ends."""
        start = line - 1
        while start > 0 and self.lines[start - 1].startswith("#"):
            start -= 1
        return "".join(f"{text}\n" for text in self.lines[start : line - 1])


def read_module(tree: Node) -> Module:
    """A module from its tree (`get_ast_as_json`)."""
    source, root = tree["source"], tree["ast"]
    text = str(source["contents"])
    sets = frozenset(_name(rule["Spec"]["head"]["Set"]["refr"]) for rule in root["rules"] if "Set" in rule.get("Spec", {}).get("head", {}))
    imports, lines = {}, {}
    for entry in root["imports"]:
        target = dotted(entry["refr"]) or ""
        alias = entry.get("as")
        name = text.encode()[alias["start"] : alias["end"]].decode() if alias else target.rsplit(".", 1)[-1]
        imports[name], lines[name] = target, int(entry["span"]["line"])
    return Module(
        file=str(source["file"]),
        text=text,
        package=dotted(root["package"]["refr"]) or "",
        package_line=int(root["package"]["span"]["line"]),
        imports=imports,
        import_lines=lines,
        definitions=[_definition(rule, text, sets) for rule in root["rules"]],
        lines=text.split("\n"),
    )


def _definition(rule: Node, text: str, sets: frozenset[str]) -> Definition:
    if "Default" in rule:
        node = rule["Default"]
        return Definition(_name(node["refr"]), "Default", int(node["span"]["line"]), node, (), False, _constant(node["value"]))
    node = rule["Spec"]
    kind, head = next(iter(node["head"].items()))
    span = node["span"]
    body = text.encode()[span["start"] : span["end"]].decode()
    bodies = [found["query"]["stmts"] for found in node["bodies"]]
    return Definition(_name(head["refr"]), kind, int(span["line"]), node, bodies, '"code":' in body, names_of_sets=sets)


def _constant(value: Node) -> Any:
    kind, node = next(iter(value.items()))
    if kind in {"Array", "Set", "Object"}:
        return "empty" if not (node.get("items") or node.get("fields")) else "filled"
    return None if kind == "Null" else node.get("value")


def _name(reference: Node) -> str:
    """The first word of a rule's name."""
    while "Var" not in reference:
        kind = next(iter(reference))
        reference = reference[kind]["refr"]
    return str(reference["Var"]["value"])


def walk(root: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node below, as (kind, members)."""
    waiting: list[object] = [root]
    while waiting:
        current = waiting.pop()
        if isinstance(current, list):
            waiting.extend(reversed(current))
        elif isinstance(current, dict):
            for name, value in current.items():
                if name[:1].isupper() and isinstance(value, dict):
                    yield name, value
            waiting.extend(current.values())


def dotted(reference: Node) -> str | None:
    """`a.b.c` for a reference of plain names, else None."""
    names: list[str] = []
    while "RefDot" in reference:
        names.append(str(reference["RefDot"]["field"][1]))
        reference = reference["RefDot"]["refr"]
    if "Var" not in reference:
        return None
    names.append(str(reference["Var"]["value"]))
    return ".".join(reversed(names))
