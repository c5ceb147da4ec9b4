"""Adds other model servers to the demo: the sample of each in a namespace of its own, and every answer compared."""

import json
import shlex
from collections.abc import Iterator

import httpx
import yaml
from rich.console import Console

from demo import images, install, kubernetes, manifests, predictions, readiness, samples, settings, upload
from demo.failure import DemoError
from demo.predictions import Target
from demo.s3_server import S3Server
from demo.server_list import Question, Server, same
from demo.stages import Stages

_FOLDER = "samples"
"""Of the demo's bucket."""


def namespace(server: Server) -> str:
    """Samples have models of the same names."""
    return f"{settings.NAMESPACE}-{server.name}"


def provide_images(servers: list[Server]) -> None:
    """Build and import what is missing; a cluster that is not ours pulls the images itself."""
    if settings.foreign_kubeconfig() is None:
        install.build_images(*(server.name for server in servers))


def show(
    servers: list[Server],
    storage: S3Server,
    gateway: str,
    *,
    console: Console,
    stages: Stages,
    api: httpx.Client,
) -> None:
    """Apply the samples, wait until their models are Ready, compare answers. Raises DemoError."""
    with stages.stage(f"kubectl apply for {', '.join(server.title for server in servers)}, and all models Ready"):
        for server in servers:
            _apply(console, storage, server)
        for server in servers:
            console.print(f"  {server.title} in namespace {namespace(server)}", highlight=False)
            names = set(server.models)
            readiness.wait(console, api, namespace(server), names, settings.READY_TIMEOUT_SECONDS)
    with stages.stage("Every server's answers, compared with what its models compute here"):
        for server in servers:
            count = _compare(Target.of(gateway, server.service, namespace(server)), server)
            line = f"{server.title}: {namespace(server)}/{server.service} with {', '.join(server.models)}"
            console.print(f"  {line}: {count} of {count} equal", highlight=False, soft_wrap=True)


def by_hand(gateway: str, servers: list[Server]) -> Iterator[str]:
    """Commands that work as they stand."""
    for server in servers:
        question, target = server.questions[0], Target.of(gateway, server.service, namespace(server))
        yield (
            f"curl -H 'Host: {target.host}' -H 'Content-Type: application/json' {target.url}{question.path} "
            f"-d {shlex.quote(json.dumps(question.body))}"
        )
    if servers:
        yield f"kubectl delete namespace --wait=false {' '.join(map(namespace, servers))}   # the other servers"


def _apply(console: Console, storage: S3Server, server: Server) -> None:
    where = namespace(server)
    kubernetes.ensure_namespace(where)
    kubernetes.apply(manifests.storage(storage, where))
    files = {f"{_FOLDER}/{key}": file for key, file in samples.artifacts(server.sample).items()}
    upload.upload_files(storage.client(), settings.BUCKET, files)
    if server.runtime:
        kubernetes.apply(yaml.safe_dump(samples.runtime(server.runtime)), "-n", where)
    made = settings.WORK / f"{server.name}.yaml"
    made.write_text(server.manifests(f"s3://{settings.BUCKET}/{_FOLDER}/"))
    console.print(f"  kubectl apply -n {where} -f {made.relative_to(settings.CHECKOUT)}", highlight=False)
    kubernetes.kubectl("apply", "-n", where, "-f", str(made))
    images.restart_model_servers_if_rebuilt(where, server.image)


def _compare(target: Target, server: Server) -> int:
    with predictions.http_client(target) as client:
        for question in server.questions:
            _ask(client, server, question)
    return len(server.questions)


def _ask(client: httpx.Client, server: Server, question: Question) -> None:
    where = f"{server.title}: {question.path}"
    try:
        answer = client.post(question.path, json=question.body)
    except httpx.HTTPError as error:
        raise DemoError(f"{where}: no answer through the gateway: {error}") from error
    if answer.status_code != httpx.codes.OK:
        raise DemoError(f"{where}: {answer.status_code} {answer.text[:500]}")
    try:
        got = question.read(answer.json())
    except (ValueError, LookupError, TypeError):
        got = answer.text[:500]
    if not same(got, question.right):
        raise DemoError(f"{where} answered {got}; {question.model} computed here answers {question.right}")
