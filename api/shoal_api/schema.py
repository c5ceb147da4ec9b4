"""Pydantic models → structural OpenAPI schemas, the form that a CustomResourceDefinition takes."""

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
VALIDATIONS = "x-kubernetes-validations"

# Left out: `title` repeats names, `default` would be written into users' objects, the others a structural schema lacks.
_DROPPED = frozenset({"title", "default", "$defs", "discriminator", "examples", "const"})


def structural(model: type[BaseModel]) -> Schema:
    """The model's schema with references resolved, nullable unions reduced and unknown fields preserved."""
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}))


def _convert(node: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _resolved(node, definitions)
    out: Schema = {}
    for key, value in node.items():
        if key in _DROPPED:
            continue
        if key == "properties":
            out[key] = {name: _convert(part, definitions) for name, part in value.items()}
        elif key == "items":
            out[key] = _convert(value, definitions)
        elif key == "additionalProperties":
            if isinstance(value, dict):
                out[key] = _convert(value, definitions)
            elif value:
                out[PRESERVE] = True
        elif key == "description":
            out[key] = " ".join(value.split())
        else:
            out[key] = value
    return out


def _resolved(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """The node without `$ref` and without the null branch of an optional field; what is said at the use site wins."""
    while "$ref" in node or "anyOf" in node:
        beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
        if "$ref" in node:
            target = definitions[node["$ref"].rsplit("/", 1)[1]]
        else:
            branches = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
            if len(branches) != 1:
                raise ValueError(f"a structural schema cannot have the union {node['anyOf']}")
            target = branches[0]
        node = {**target, **beside}
    return node
