"""Where everything lives, and the few numbers that several modules must agree on."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
LOCAL = CHECKOUT / ".local"
KUBECONFIG = LOCAL / "kubeconfig"
LOCAL_BIN = LOCAL / "bin"

# Shared by every clone on the machine: binaries, base images and image archives, keyed by their inputs.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoal"

# One cluster runs per machine, so its state has one fixed place: any checkout can find and remove it,
# even when the checkout that started it is gone. The paths stay short because of sockets below them.
STATE = Path("/var/lib/shoal-cluster")
RUN = Path("/run/shoal-cluster")
LOGS = STATE / "logs"
PKI = STATE / "pki"
CONFIG = STATE / "config"
CONTAINERD_SOCKET = RUN / "containerd.sock"

NODE_NAME = "shoal"
BRIDGE = "shoal0"
POD_NETWORK = "10.244.0.0/22"
NODE_IP = "10.244.0.1"
NODE_IP_WITH_PREFIX = "10.244.0.1/22"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"
API_PORT = 6443
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
MAX_PODS = 250

# Where the further nodes of `make cluster NODES=n` and the first one meet, and what is a further node's.
NODES_BRIDGE = "shoaln0"
NODES_ROUTER_IP = "10.250.0.1"
ZONE_LABEL = "topology.kubernetes.io/zone"

# Built here from Debian's static busybox; both names are the same image.
PAUSE_IMAGE = "localhost/shoal/pause:1"
BUSYBOX_IMAGE = "docker.io/library/busybox:1.36"
