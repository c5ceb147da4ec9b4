"""The Debian packages that the cluster needs, installed when missing."""

import os

from cluster.commands import find, need, run
from cluster.progress import ClusterError, step

# package → a program of its (or a file) that shows that it is there
_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "debootstrap": "debootstrap",
    "busybox-static": "/bin/busybox",
    "iproute2": "ip",
    "openssl": "openssl",
    "procps": "sysctl",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
}
_LOCK_WAIT_SECONDS = 120


def missing() -> list[str]:
    """The packages that are not installed."""
    return [package for package, probe in _PACKAGES.items() if find(probe) is None and not os.path.exists(probe)]


def ensure() -> None:
    """Install what is missing; fail with the names where that is not possible."""
    wanted = missing()
    if not wanted:
        return
    if find("apt-get") is None:
        raise ClusterError(f"the local cluster needs Debian; not found here: {', '.join(wanted)}")
    apt = [str(need("apt-get", "Debian only")), "-o", f"DPkg::Lock::Timeout={_LOCK_WAIT_SECONDS}"]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"Debian packages: {' '.join(wanted)}"):
        run([*apt, "update"], env=quiet)
        run([*apt, "install", "-y", "--no-install-recommends", *wanted], env=quiet)
    still = missing()
    if still:
        raise ClusterError(f"installed, yet still missing: {', '.join(still)}")
