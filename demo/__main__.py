"""Runs the demo's stages in order; exits with 1 and a message when anything was wrong."""

import argparse
import sys

from rich.console import Console
from rich.markup import escape

from demo import (
    attack,
    guide,
    holders,
    images,
    install,
    kubernetes,
    manifests,
    owners,
    predictions,
    readiness,
    s3_server,
    server_names,
    servers,
    settings,
)
from demo import upload as uploads
from demo.failure import DemoError
from demo.predictions import Target
from demo.s3_server import S3Server
from demo.server_list import SERVERS, Server
from demo.stages import Stages
from demo.training import DemoModel, train


def main() -> int:
    """The whole demo; 0 when all of it held."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--servers", default="", help=f"model servers to add: {', '.join(SERVERS)}")
    arguments = parser.parse_args()
    console = Console()
    stages = Stages(console)
    try:
        names = server_names.chosen(arguments.servers)
        server_names.check_to_be_had(names)
        _run(console, stages, [SERVERS[name] for name in names])
    except DemoError as error:
        stages.show()
        console.print(f"\n[bold red]The demo failed:[/bold red] {escape(str(error))}", highlight=False)
        return 1
    return 0


def _run(console: Console, stages: Stages, others: list[Server]) -> None:
    with stages.stage("Cluster and images"):
        install.make("cluster")
        if others:
            servers.provide_images(others)
    with stages.stage("Chart"):
        install.chart()
        gateway = install.gateway()
    with stages.stage("Sixty models, trained here"):
        models = train(settings.WORK / "models")
    with stages.stage("S3 server and upload"):
        server = _storage(console, models)
    target = Target.of(gateway, settings.INFERENCE_SERVICE, settings.NAMESPACE)
    with kubernetes.api_proxy() as api:
        with stages.stage("kubectl apply, and all models Ready"):
            _apply(console, server, models)
            names = {model.name for model in models}
            readiness.wait(console, api, settings.NAMESPACE, names, settings.READY_TIMEOUT_SECONDS)
        with stages.stage("Every model's prediction, compared with the model trained here"):
            for way, count in predictions.compare_all(target, models):
                console.print(f"  {way}: {count} of {count} equal", highlight=False)
        with stages.stage(f"Attack: {settings.ATTACK_RATE} requests/s for {settings.ATTACK_SECONDS} s"):
            rate, seconds = settings.ATTACK_RATE, settings.ATTACK_SECONDS
            attack.show(console, attack.attack(target, models, rate, seconds, settings.WORK))
        with stages.stage("Placement"):
            held = holders.by_pod(api, settings.NAMESPACE, sorted(names))
            holders.show(console, held)
            holders.check(held, names)
        with stages.stage("A model on pods of its own, one of ModelMesh's, one that nobody registered"):
            owners.show(console, api, server, gateway, models[0])
        if others:
            servers.show(others, server, gateway, console=console, stages=stages, api=api)
    guide.write_environment(target, server)
    stages.show()
    guide.show(console, target, models, servers.by_hand(gateway, others))


def _storage(console: Console, models: list[DemoModel]) -> S3Server:
    server = s3_server.ensure(settings.S3_NAMESPACE, settings.S3_NODE_PORT)
    client = server.client()
    uploads.ensure_bucket(client, settings.BUCKET)
    folders = [settings.WORK / "models" / model.name for model in models]
    console.print(f"  {uploads.upload_folders(client, settings.BUCKET, folders)} files uploaded to {server.endpoint}")
    return server


def _apply(console: Console, server: S3Server, models: list[DemoModel]) -> None:
    kubernetes.ensure_namespace(settings.NAMESPACE)
    kubernetes.apply(manifests.storage(server, settings.NAMESPACE))
    service = settings.WORK / "inference-service.yaml"
    service.write_text(manifests.inference_service(settings.INFERENCE_SERVICE, settings.NAMESPACE, settings.PODS))
    trained = settings.WORK / "trained-models.yaml"
    trained.write_text(
        manifests.trained_models(models, settings.NAMESPACE, settings.INFERENCE_SERVICE, settings.BUCKET)
    )
    for file in (service, trained):
        console.print(f"  kubectl apply -f {file.relative_to(settings.CHECKOUT)}", highlight=False)
        kubernetes.kubectl("apply", "-f", str(file))
    images.restart_model_servers_if_rebuilt(settings.NAMESPACE, "/mlserver:")


if __name__ == "__main__":
    sys.exit(main())
