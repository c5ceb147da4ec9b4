"""python3 -m cluster up | down | status | images [NAME…]"""

import argparse
import os
import sys

from cluster import binaries, lifecycle, ownership, packages, processes
from cluster.layout import KUBECONFIG
from cluster.progress import Background, ClusterError, say, warn


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start or repair the cluster")
    commands.add_parser("down", help="remove the cluster")
    commands.add_parser("status", help="say what runs")
    arguments = parser.parse_args()
    takeover = os.environ.get("TAKEOVER") == "1"
    try:
        if arguments.command == "up":
            _up(takeover)
        elif arguments.command == "down":
            lifecycle.down(takeover)
        elif arguments.command == "status":
            return _status()
    except ClusterError as failure:
        warn(f"error: {failure}")
        return 1
    except KeyboardInterrupt:
        warn("interrupted; the next run goes on from here")
        return 130
    return 0


def _up(takeover: bool) -> None:
    ownership.must_not_be_another(takeover)
    packages.ensure()
    for tool in binaries.FOR_THE_CLUSTER:
        binaries.ensure(tool)
    for_the_user = Background(lambda: [binaries.ensure(tool) for tool in binaries.FOR_THE_USER] and None)
    lifecycle.up(takeover)
    for_the_user.wait()
    say(f"the cluster is ready: export KUBECONFIG={KUBECONFIG}")


def _status() -> int:
    say(f"cluster of {ownership.owner() or 'no checkout'}")
    for name in processes.recorded():
        pid = processes.pid_of(name)
        say(f"{name}: {f'running as {pid}' if pid else 'not running'}")
    ready = lifecycle.healthy()
    say("it answers" if ready else "it does not answer")
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main())
