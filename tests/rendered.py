"""Checks what the chart renders (YAML on standard input) against the schemas of Kubernetes and of our CRDs.

Kubernetes' own kinds are checked with the typed models of its Python client, which forbid unknown fields; custom
resources with the CRDs in crds/. Each complaint is one line; the exit status is 1 when there is one.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pydantic
import yaml
from kubernetes.aio.client import models

_CRDS = Path(__file__).parent.parent / "crds"
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_RBAC_NAME = re.compile(r"[a-z0-9]([-a-z0-9.:]*[a-z0-9])?")


def complaints(documents: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong, a line each."""
    custom = _custom_schemas()
    identities = Counter(_identity(document) for document in documents)
    yield from (f"{identity}: rendered {count} times" for identity, count in identities.items() if count > 1)
    for document in documents:
        identity, kind = _identity(document), str(document.get("kind"))
        pattern = _RBAC_NAME if "Role" in kind else _DNS_NAME
        if not pattern.fullmatch(document["metadata"]["name"]):
            yield f"{identity}: not a name that Kubernetes takes"
        if kind == "CustomResourceDefinition":
            continue  # generated, and checked against a real API server by the component tests
        schema = custom.get((document["apiVersion"], kind))
        if schema is not None:
            errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
            yield from (f"{identity}: {error.json_path}: {error.message}" for error in errors)
        else:
            yield from _built_in_complaints(identity, document)


def _built_in_complaints(identity: str, document: dict[str, Any]) -> Iterator[str]:
    version = document["apiVersion"].rpartition("/")[2]
    model = getattr(models, version[0].upper() + version[1:] + document["kind"], None)
    if model is None:
        yield f"{identity}: {document['apiVersion']} is no kind of Kubernetes and none of our CRDs"
        return
    try:
        model.model_validate(document)
    except pydantic.ValidationError as error:
        for entry in error.errors():
            yield f"{identity}: {'.'.join(map(str, entry['loc']))}: {entry['msg']}"


def _custom_schemas() -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for file in sorted(_CRDS.glob("*.yaml")):
        for crd in yaml.safe_load_all(file.read_text()):
            for version in crd["spec"]["versions"]:
                key = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
                found[key] = version["schema"]["openAPIV3Schema"]
    return found


def _identity(document: dict[str, Any]) -> str:
    metadata = document["metadata"]
    return f"{document.get('kind')} {metadata.get('namespace', '')}/{metadata.get('name')}"


def main() -> int:
    """Check standard input."""
    documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
    if not documents:
        print("nothing was rendered")
        return 1
    found = list(complaints(documents))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
