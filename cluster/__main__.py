"""python3 -m cluster up | down | status | images [NAME…] | tools"""

import argparse
import os
import sys

from cluster import binaries, external, jobs, lifecycle, ownership, plan, processes
from cluster.image_list import BY_NAME, PROJECT, RUNTIMES
from cluster.layout import KUBECONFIG
from cluster.progress import ClusterError, say, warn


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
    jobs.run(plan.whole_cluster(takeover))
    say(f"the cluster is ready and has all images: export KUBECONFIG={KUBECONFIG}")


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
    binaries.ensure_all((*binaries.FOR_THE_CLUSTER, *binaries.FOR_THE_USER))


def _images(arguments: argparse.Namespace) -> None:
    wanted = [BY_NAME[name] for name in arguments.names] or [*PROJECT, *RUNTIMES]
    local = external.kubeconfig() is None
    imported = local and lifecycle.healthy()
    jobs.run(plan.images(wanted, imported=imported))
    if not local:
        external.explain_loading(wanted)
    elif imported:
        say("the cluster has them: " + ", ".join(image.tag() for image in wanted))
    else:
        say("no cluster of this checkout runs, so nothing was imported")


def _takeover() -> bool:
    return os.environ.get("TAKEOVER", "") not in ("", "0")


if __name__ == "__main__":
    sys.exit(main())
