"""Say what a parameter does, what it may be, and what it is: in params.yaml's own comments and by its schema.

A section, such as lr, has all of its parameters; without a name, all are told.
"""

import argparse
import difflib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import yaml
from pydantic.json_schema import GenerateJsonSchema
from yaml import MappingNode, Node

from stages.errors import UserError, without_passwords
from stages.params import PARAMS_FILE, Params, read_params
from stages.yaml12 import Yaml12Loader, parse_yaml

MISSING = "missing"


@dataclass(frozen=True)
class Explained:
    """What there is to know of one parameter.

    Attributes:
        name: with its section, such as lr.head.
        text: what it does, its unit and where its default is from, as params.yaml says.
        allowed: which values it takes, in words.
        committed: its value in the params.yaml of Git's last commit; MISSING where there is none.
        value: its value in params.yaml now; MISSING where there is none.
    """

    name: str
    text: str
    allowed: str
    committed: Any
    value: Any


def main() -> None:
    """Explain parameters, or print the schema for editors."""
    parser = argparse.ArgumentParser(prog="python -m stages.params", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--explain", nargs="*", metavar="NAME", help="parameters or sections, such as lr.layer_decay; all"
    )
    what.add_argument("--schema", action="store_true", help="print the JSON Schema that editors check params.yaml with")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with a key for each parameter")
    options = parser.parse_args()
    if options.schema:
        print(json.dumps(params_schema(), indent=2, ensure_ascii=False))
        return
    found = explain(options.explain)
    if options.json:
        print(json.dumps({one.name: asdict(one) for one in found}, ensure_ascii=False))
    else:
        print("\n\n".join(map(as_text, found)))


def explain(names: list[str]) -> list[Explained]:
    """Return what there is to know of parameters, of all in these sections, or of all.

    Raises:
        UserError: there is no parameter or section of this name, or no params.yaml.
    """
    content, committed, comments = read_params(), _committed(), read_comments(PARAMS_FILE.read_text(encoding="utf-8"))
    every = [
        Explained(
            name, _text_of(name, comments), in_words(schema), _value_at(committed, name), _value_at(content, name)
        )
        for name, schema in _parameters(_plain_schema())
    ]
    for name in names:
        if not any(_is_in(one.name, name) for one in every):
            raise UserError(f"--explain: there is no parameter {name}; {_meant(name, [one.name for one in every])}")
    return [one for one in every if not names or any(_is_in(one.name, name) for name in names)]


def as_text(one: Explained) -> str:
    """Return what people read of a parameter."""
    rows = {"allowed": one.allowed, "committed": _short(one.committed), "now": _short(one.value)}
    lines = [*one.text.splitlines(), *(f"{title + ':':<11}{said}" for title, said in rows.items())]
    return "\n    ".join([one.name, *lines])


def _text_of(name: str, comments: dict[str, str]) -> str:
    """Return what the comments say of a parameter, after what they say of its sections."""
    parts = name.split(".")
    sections = [".".join(parts[:depth]) for depth in range(1, len(parts))]
    return "\n".join(
        [*(f"{one}: {comments[one]}" for one in sections if one in comments), comments.get(name, "")]
    ).strip()


def in_words(schema: dict[str, Any]) -> str:
    """Return which values a part of a JSON Schema allows, such as `number, above 0; or null`."""
    if "anyOf" in schema:
        return "; or ".join(in_words(choice) for choice in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(map(str, schema.get("enum", [schema.get("const")])))
    bounds = [words.format(schema[key]) for key, words in BOUNDS.items() if key in schema]
    each = [f"each: {in_words(schema['items'])}"] if "items" in schema else []
    return ", ".join([KINDS[schema["type"]], *bounds, *each])


KINDS = {
    "number": "number",
    "integer": "whole number",
    "boolean": "true | false",
    "string": "text",
    "null": "null",
    "array": "list",
    "object": "keys with values",
}
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "{} or more",
    "maxItems": "{} or fewer",
    "minProperties": "{} or more",
}


def params_schema() -> dict[str, Any]:
    """Return the JSON Schema of params.yaml, with its comments as descriptions."""
    comments = read_comments(PARAMS_FILE.read_text(encoding="utf-8"))
    schema = _plain_schema()
    _describe(schema, comments, "")
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}


def read_comments(text: str) -> dict[str, str]:
    """Return the comments of a YAML file: dotted key -> what stands beside it, in lines.

    A comment goes on in the lines below it that are indented more than its key. One that is indented like the keys is
    a heading, and stands before the comments of all keys below it in this section.
    """
    root = yaml.compose(text, Loader=Yaml12Loader)
    return dict(_comments_in(root, text.splitlines(), "")) if isinstance(root, MappingNode) else {}


def _comments_in(node: MappingNode, lines: list[str], prefix: str) -> Iterator[tuple[str, str]]:
    heading: list[str] = []
    for key, value in node.value:
        indent = key.start_mark.column
        name = f"{prefix}{key.value}"
        if prefix and (above := _heading_above(lines, key.start_mark.line, indent)):
            heading = above
        if said := [*heading, *_comment_beside(lines, key, value)]:
            yield name, "\n".join(said)
        if isinstance(value, MappingNode) and not value.flow_style:
            yield from _comments_in(value, lines, f"{name}.")


def _heading_above(lines: list[str], row: int, indent: int) -> list[str]:
    """Return the comment lines right above a key that are indented as it is."""
    found: list[str] = []
    for line in reversed(lines[:row]):
        if not line[indent:].startswith("#") or line[:indent].strip():
            break
        found.insert(0, line.strip(" #"))
    return found


def _comment_beside(lines: list[str], key: Node, value: Node) -> list[str]:
    """Return the comment behind a value, or behind the key of a section, and the lines in which it goes on."""
    is_section = isinstance(value, MappingNode) and not value.flow_style
    end = key.end_mark if is_section else value.end_mark
    _, sign, first = lines[end.line][end.column :].partition("#")
    if not sign:
        return []
    found = [first.strip()]
    for line in lines[end.line + 1 :]:
        if not line.strip().startswith("#") or line.index("#") <= key.start_mark.column:
            break
        found.append(line.strip(" #"))
    return found


class _WithoutTitles(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave away what only repeats the key."""
        return False


def _plain_schema() -> dict[str, Any]:
    """Return the schema with every section where it belongs, in place of references."""
    schema = Params.model_json_schema(schema_generator=_WithoutTitles)
    sections = schema.pop("$defs")

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(entry) for entry in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inlined({**sections[part["$ref"].rpartition("/")[2]], **_without(part, "$ref")})
        closed = {"additionalProperties": False} if "patternProperties" in part else {}  # a key has to fit the pattern
        return {**{key: inlined(entry) for key, entry in part.items()}, **closed}

    return dict(inlined(schema))


def _describe(schema: dict[str, Any], comments: dict[str, str], prefix: str) -> None:
    """Put comments beside the types. Where there is none, a section keeps the first line of its own description."""
    if "description" in schema:
        schema["description"] = schema["description"].splitlines()[0]
    for key, part in schema.get("properties", {}).items():
        _describe(part, comments, f"{prefix}{key}.")
        if text := comments.get(f"{prefix}{key}"):
            part["description"] = text
    for part in [
        *schema.get("anyOf", ()),
        schema.get("additionalProperties"),
        *schema.get("patternProperties", {}).values(),
    ]:
        if isinstance(part, dict):
            _describe(part, {}, "")


def _parameters(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every parameter with its part of the schema, in the order of params.yaml."""
    for key, part in schema["properties"].items():
        if "properties" in part:
            yield from _parameters(part, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", part


def _committed() -> dict[str, Any]:
    """Return the content of the committed params.yaml; of none where Git has none."""
    done = subprocess.run(["git", "show", f"HEAD:./{PARAMS_FILE}"], capture_output=True, text=True, check=False)
    content = parse_yaml(done.stdout) if not done.returncode else None
    return content if isinstance(content, dict) else {}


def _value_at(content: Any, name: str) -> Any:
    for key in name.split("."):
        if not isinstance(content, dict) or key not in content:
            return MISSING
        content = content[key]
    return without_passwords(content) if isinstance(content, str) else content


def _is_in(name: str, section: str) -> bool:
    return name == section or name.startswith(f"{section}.")


def _meant(name: str, known: list[str]) -> str:
    """Return which parameter was probably meant: one with this key in another section, or one that looks like it."""
    same_key = [other for other in known if other.split(".")[-1] == name.rsplit(".", 1)[-1]]
    near = same_key or difflib.get_close_matches(name, known, n=1)
    sections = list(dict.fromkeys(other.split(".")[0] for other in known))
    near = near or difflib.get_close_matches(name, sections, n=1)
    return f"did you mean {' or '.join(near)}?" if near else f"sections are {', '.join(sections)}"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _without(part: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: entry for name, entry in part.items() if name != key}
