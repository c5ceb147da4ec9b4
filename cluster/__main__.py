"""python3 -m cluster up | down | status | images [NAME…] | tools"""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping

from cluster import binaries, external, images, lifecycle, ownership, packages, processes
from cluster.image_list import BY_NAME, PROJECT, RUNTIMES, Image
from cluster.layout import KUBECONFIG
from cluster.progress import Background, ClusterError, say, warn


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start or repair the cluster, build and import all images").set_defaults(run=_up)
    commands.add_parser("down", help="remove the cluster").set_defaults(run=_down)
    commands.add_parser("status", help="say what runs").set_defaults(run=_status)
    commands.add_parser("tools", help="build only the programs, into .local/bin").set_defaults(run=_tools)
    some = commands.add_parser("images", help="build images; import them when the cluster runs")
    some.add_argument("names", nargs="*", choices=[*BY_NAME, []], metavar="NAME", help=", ".join(BY_NAME))
    some.set_defaults(run=_images)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except ClusterError as failure:
        warn(f"error: {failure}")
        return 1
    except KeyboardInterrupt:
        warn("interrupted; the next run goes on from here")
        return 130
    return 0


def _up(_: argparse.Namespace) -> None:
    config = external.kubeconfig()
    if config is not None:
        external.verify(config)
        return
    takeover = _takeover()
    ownership.must_not_be_another(takeover)
    packages.ensure()
    wanted = [*RUNTIMES, *PROJECT]
    building = Background(lambda: _build(wanted))
    for tool in binaries.FOR_THE_CLUSTER:
        binaries.ensure(tool)
    others = Background(lambda: _ensure_all(binaries.FOR_THE_USER))
    lifecycle.up(takeover)
    say(f"the cluster is up: export KUBECONFIG={KUBECONFIG}")
    others.wait()
    _import(*building.wait())
    say("the cluster is ready and has all images")


def _down(_: argparse.Namespace) -> None:
    if external.kubeconfig() is not None:
        raise ClusterError("SHOAL_KUBECONFIG is set: that cluster is yours, it is left alone")
    lifecycle.down(_takeover())


def _status(_: argparse.Namespace) -> None:
    config = external.kubeconfig()
    if config is not None:
        external.verify(config)
        return
    say(f"the cluster belongs to {ownership.owner() or 'no checkout'}")
    for name in processes.recorded():
        pid = processes.pid_of(name)
        say(f"{name}: {f'running as {pid}' if pid else 'not running'}")
    if not lifecycle.healthy():
        raise ClusterError("no cluster of this checkout answers: run 'make cluster'")
    say(f"it answers: export KUBECONFIG={KUBECONFIG}")


def _tools(_: argparse.Namespace) -> None:
    _ensure_all((*binaries.FOR_THE_CLUSTER, *binaries.FOR_THE_USER))


def _images(arguments: argparse.Namespace) -> None:
    packages.ensure()
    built, failed = _build([BY_NAME[name] for name in arguments.names] or list(BY_NAME.values()))
    if external.kubeconfig() is not None:
        external.explain_loading(built)
    elif lifecycle.healthy():
        _import(built, failed)
        say("the cluster has them: " + ", ".join(image.tag() for image in built))
    else:
        say("no cluster of this checkout runs, so nothing was imported")
    _fail_for(failed)


def _build(wanted: Iterable[Image]) -> tuple[dict[Image, str], list[str]]:
    """Build every image; what was built (with its hash), and why others were not."""
    built: dict[Image, str] = {}
    failed = []
    for image in wanted:
        try:
            built[image] = images.build(image)
        except ClusterError as failure:
            failed.append(f"image {image.name}: {failure}")
    return built, failed


def _import(built: Mapping[Image, str], failed: list[str]) -> None:
    """Import what was built, and only then fail for what was not."""
    for image, digest in built.items():
        images.import_into_cluster(image, digest)
    _fail_for(failed)


def _fail_for(failed: list[str]) -> None:
    if failed:
        raise ClusterError("\n".join(failed))


def _ensure_all(tools: Iterable[binaries.Tool]) -> None:
    for tool in tools:
        binaries.ensure(tool)


def _takeover() -> bool:
    return os.environ.get("TAKEOVER", "") not in ("", "0")


if __name__ == "__main__":
    sys.exit(main())
