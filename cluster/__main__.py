"""python3 -m cluster up [--nodes N] | down | status | images [NAME…] | tools | node FAULT NAME"""

import argparse
import os
import sys

from cluster import binaries, external, jobs, lifecycle, ownership, plan, processes
from cluster.image_list import BY_NAME, PROJECT, RUNTIMES
from cluster.layout import KUBECONFIG
from cluster.nodes import faults, status
from cluster.nodes.node import further, present
from cluster.progress import ClusterError, say, warn


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start or repair the cluster, build and import all images")
    up.add_argument("--nodes", type=int, default=1, help="of how many nodes; further ones are added or removed")
    up.set_defaults(run=_up)
    commands.add_parser("down", help="remove the cluster").set_defaults(run=_down)
    commands.add_parser("status", help="say what runs").set_defaults(run=_status)
    tools = commands.add_parser("tools", help="build only the programs, into .local/bin")
    tools.add_argument("--nodes", type=int, default=1, help="also those that a cluster of several nodes needs")
    tools.set_defaults(run=_tools)
    node = commands.add_parser("node", help="hurt a further node, or make it well again")
    node.add_argument("fault", choices=[*faults.FAULTS])
    node.add_argument("name")
    node.set_defaults(run=_node)
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


def _up(arguments: argparse.Namespace) -> None:
    further(arguments.nodes)  # refuse a wrong number before anything is built
    config = external.kubeconfig()
    if config is not None:
        if arguments.nodes > 1:
            raise ClusterError("SHOAL_KUBECONFIG is set: the nodes of that cluster are yours; leave NODES out")
        external.verify(config)
        return
    takeover = _takeover()
    ownership.must_not_be_another(takeover)
    jobs.run(plan.whole_cluster(takeover, arguments.nodes))
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
    prefixes = tuple(node.prefix for node in present())
    for name in processes.recorded():
        if not name.startswith(prefixes):
            say(f"{name}: {status.state(name)}")
    for line in status.lines():
        say(line)
    if not lifecycle.healthy():
        raise ClusterError("no cluster of this checkout answers: run 'make cluster'")
    say(f"it answers: export KUBECONFIG={KUBECONFIG}")


def _tools(arguments: argparse.Namespace) -> None:
    binaries.ensure_all((*binaries.FOR_THE_CLUSTER, *binaries.FOR_THE_USER))
    if arguments.nodes > 1:
        binaries.ensure_all(binaries.FOR_SEVERAL_NODES)


def _node(arguments: argparse.Namespace) -> None:
    ownership.must_not_be_another(takeover=False)
    faults.perform(arguments.fault, arguments.name)


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
