"""The gates that a revision passes before the embedded engine may answer by it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from gateway.access.rego_process import RegoProcess
from gateway.access.vetting import ALLOWED_BUILTINS, MAX_MODULE_BYTES, MAX_MODULES, MAX_NESTING, vet, vet_text
from tests.policies.shipped import answering, parts

# One expression for each allowed builtin, with a value that would show a difference.
EXPRESSIONS = {
    "abs": "abs(-7)",
    "array.concat": 'array.concat([1, "é"], [null])',
    "array.slice": "array.slice([1, 2, 3, 4], 1, 3)",
    "concat": 'concat(", ", ["b", "a", "é"])',
    "contains": 'contains("Port Credit", "t C")',
    "count": 'count("éà") + count({1, 1, 2}) * 10 + count({"a": 1}) * 100 + count([]) * 1000',
    "endswith": 'endswith("events", "ts")',
    "indexof": 'indexof("Port Crédit", "dit")',
    "is_array": "[is_array([]), is_array({})]",
    "is_boolean": "[is_boolean(false), is_boolean(0)]",
    "is_null": "[is_null(null), is_null(0)]",
    "is_number": '[is_number(1), is_number("1")]',
    "is_object": "[is_object({}), is_object([])]",
    "is_set": "[is_set({1}), is_set([1])]",
    "is_string": '[is_string("1"), is_string(1)]',
    "lower": 'lower("PORT Crédit")',
    "max": '[max([1, 3, 2]), max({"a", "b"}), max([1, "a", null])]',
    "min": '[min([3, 1, 2]), min({"a", "b"}), min([1, "a", null])]',
    "object.get": '[object.get({"a": 1}, "a", 0), object.get({"a": {"b": 2}}, ["a", "b"], 0), object.get({}, "a", "none")]',
    "object.keys": 'object.keys({"b": 1, "a": 2})',
    "object.remove": 'object.remove({"a": 1, "b": 2}, ["a"])',
    "object.union": 'object.union({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4})',
    "regex.match": '[regex.match("^[a-z]{2}-[0-9]+$", "ab-12"), regex.match("^[a-z]+$", "é")]',
    "replace": 'replace("a.b.c", ".", "/")',
    "round": "[round(5), round(-5)]",
    "sort": 'sort(["b", 3, "a", null, 1, true])',
    "split": 'split("a/b//c", "/")',
    "sprintf": 'sprintf("%s has %d of %v, 100%%", ["zone", 3, "all"])',
    "startswith": 'startswith("events", "ev")',
    "substring": '[substring("Port Crédit", 5, 3), substring("Port", 1, -1)]',
    "sum": "sum([1, 2, 3])",
    "trim": 'trim("--a-b--", "-")',
    "trim_prefix": 'trim_prefix("org_1", "org_")',
    "trim_suffix": 'trim_suffix("a.rego", ".rego")',
    "union": "union({{1, 2}, {2, 3}})",
    "upper": 'upper("Port Crédit")',
}


def test_every_allowed_builtin_is_compared() -> None:
    assert set(EXPRESSIONS) == ALLOWED_BUILTINS


def test_every_allowed_builtin_means_the_same_in_both_engines(opa_binary: Path, tmp_path: Path) -> None:
    members = ",\n".join(f"{json.dumps(name)}: {expression}" for name, expression in EXPRESSIONS.items())
    modules = answering(f"decision := {{{members}}}")
    assert vet(modules) == []
    process, _ = RegoProcess.loaded(modules, {})
    embedded = process.evaluate("data.exchange.main.decision", {}, 5)
    process.end()

    module = tmp_path / "main.rego"
    module.write_text(modules["main/main.rego"])
    command: list[str | Path] = [
        opa_binary,
        "eval",
        "--strict-builtin-errors",
        "--format=raw",
        "--data",
        module,
        "data.exchange.main.decision",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={})
    assert embedded == json.loads(done.stdout)


def test_the_shipped_policies_pass() -> None:
    modules, data = parts()
    assert vet(modules, data["exchange"]["rules"]) == []


@pytest.mark.parametrize(
    "expression",
    [
        'http.send({"method": "get", "url": "https://example.org"})',
        "opa.runtime()",
        'net.lookup_ip_addr("example.org")',
        'rego.parse_module("a", "package a")',
        "rego.metadata.rule()",
        'rand.intn("a", 10)',
        'uuid.rfc4122("a")',
        'io.jwt.decode("a.b.c")',
        'crypto.sha256("a")',
        'crypto.x509.parse_certificates("a")',
        'graphql.is_valid("a", "b")',
        'uri.parse("https://example.org")',
        'trace("a")',
        'print("a")',
        "time.now_ns()",
        'time.parse_rfc3339_ns("2026-11-23T12:00:00Z")',
        'semver.compare("1.0.0", "1.0.1")',
        'net.cidr_contains("10.0.0.0/8", "10.1.1.1")',
        'regex.replace("a", "b", "c")',
        'to_number("1")',
        'json.unmarshal("{}")',
        "nothing_known(1)",
    ],
)
def test_builtins_that_are_not_on_the_list_are_refused(expression: str) -> None:
    name = expression.partition("(")[0]
    assert vet(answering(f"decision if {{ {expression} }}")) == [f"main/main.rego:3: {name} is not on the list of allowed builtins"]


@pytest.mark.parametrize("nested", ["[x | x := opa.runtime()]", "{1: {opa.runtime()}}", "count([opa.runtime()])", "input[opa.runtime()]"])
def test_a_refused_builtin_is_found_wherever_it_hides(nested: str) -> None:
    assert vet(answering(f"decision := {nested}")) == ["main/main.rego:3: opa.runtime is not on the list of allowed builtins"]


@pytest.mark.parametrize("pattern", [r"`^\d+$`", r'"\\w"', r"`\s`", r"`\bword\b`", r"`\D`", r"`[[:alpha:]]`", r"`\pL`", r"`(?i)a`"])
def test_patterns_that_the_engines_read_differently_are_refused(pattern: str) -> None:
    (finding,) = vet(answering(f"decision if regex.match({pattern}, input.action)"))
    assert "the engines read them differently" in finding


def test_a_pattern_from_elsewhere_is_refused() -> None:
    assert vet(answering("decision if regex.match(input.pattern, input.action)")) == [
        "main/main.rego:3: a pattern is written where it is used"
    ]


@pytest.mark.parametrize("call", ['sprintf("%x", [1])', 'sprintf("%5d", [1])', 'sprintf("%", [])', "sprintf(input.text, [1])"])
def test_formats_other_than_the_plain_ones_are_refused(call: str) -> None:
    assert vet(answering(f"decision := {call}")) == ["main/main.rego:3: sprintf takes a literal with %s, %d and %v only"]


@pytest.mark.parametrize("number", ["1.5", "9007199254740993", "-9007199254740993", "123456789012345678901234567890"])
def test_numbers_that_the_engines_may_round_are_refused(number: str) -> None:
    assert vet(answering(f"decision := {number}")) == ["main/main.rego:3: numbers are integers up to 2^53"]


@pytest.mark.parametrize("reference", ["data.tokens", "data", 'data["exchange"].rules', "data[input.action]", "{x | some x in data}"])
def test_nothing_is_read_beside_the_exchanges_own_data(reference: str) -> None:
    assert vet(answering(f"decision := {reference}")) == ["main/main.rego:3: data is read below data.exchange only"]


def test_imports_come_from_the_exchange_only() -> None:
    assert vet(answering("import data.tokens\n\ndecision := tokens")) == ["main/main.rego:3: imports come from data.exchange only"]


def test_functions_are_never_replaced() -> None:
    assert vet(answering("decision if count([]) == 0 with count as 7")) == [
        "main/main.rego:3: `with` replaces input and data only, never a function",
    ]


def test_input_and_data_may_be_replaced() -> None:
    assert vet(answering('decision if count([]) == 0 with input as {} with data.exchange.rules as {"a": 1}')) == []


def test_a_function_of_ones_own_may_be_called_and_may_not_have_a_builtins_name() -> None:
    assert vet(answering("decision := mine(1)\n\nmine(x) := x")) == []
    assert vet(answering("decision := 1\n\ncount(x) := x")) == ["main/main.rego:1: count is the name of a builtin"]
    assert vet(answering("decision := 1\n\nhttp.send(x) := x")) == ["main/main.rego:1: the name of a function is one word"]


def test_a_function_of_another_package_may_be_called_by_its_import() -> None:
    modules = answering("import data.exchange.sheet as leaf\n\ndecision := leaf.of(1)") | {
        "sheet/sheet.rego": "package exchange.sheet\n\nof(x) := x\n"
    }
    assert vet(modules) == []


def test_the_folder_is_the_package() -> None:
    assert vet({"main/other.rego": "package exchange.elsewhere\n"}) == [
        "main/other.rego:1: the folder is the package: this should be `package exchange.main`",
    ]
    assert vet({"main/authz.rego": "package system.authz\n\nallow := true\n"})[0].startswith("main/authz.rego:1: the folder is the package")


def test_what_does_not_parse_is_refused_with_its_place() -> None:
    (finding,) = vet(answering("decision := "))
    assert "main/main.rego:" in finding


@pytest.mark.parametrize("text", ['decision := $"{input.action}"', "decision := 1e400"])
def test_what_the_embedded_engine_cannot_read_is_refused(text: str) -> None:
    assert vet(answering(text)) != []


def test_a_sheet_that_does_not_fit_is_refused() -> None:
    assert vet({}, {"footfall": {"dataset": "footfall"}}) != []


def test_nesting_is_capped_before_a_parser_sees_it() -> None:
    deep = MAX_NESTING + 1
    assert [str(finding) for finding in vet_text(answering(f"decision := {'[' * deep}{']' * deep}"))] == [
        f"main/main.rego:3: more than {MAX_NESTING} brackets within brackets",
    ]
    assert vet(answering(f"decision := {'[' * 100_000}")) != []


def test_brackets_in_strings_and_comments_do_not_nest() -> None:
    many = "[" * 50
    assert vet(answering(f'# {many}\ndecision := ["{many}\\"{many}", `{many}\n{many}`]')) == []


def test_a_long_chain_without_brackets_is_refused_and_harms_nobody() -> None:
    chain = " +\n".join(["1"] * 1_000)
    (finding,) = vet(answering(f"decision := {chain}"))
    assert finding.startswith("the policy engine ")


def test_size_and_number_are_capped() -> None:
    assert vet_text({"main/main.rego": "#" * (MAX_MODULE_BYTES + 1)}) != []
    assert vet_text({f"a/{number}.rego": "package exchange.a" for number in range(MAX_MODULES + 1)}) != []
