"""Programs of Debian that only some tests need."""

import os
import shutil
import subprocess


def program(name: str, package: str) -> str:
    """Where it is; its package is installed when it is nowhere and we may. Fails when there is none."""
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"])
    for command in ([], ["install"], ["update"], ["install"]):
        if (found := shutil.which(name, path=folders)) is not None:
            return found
        if command and os.getuid() == 0 and shutil.which("apt-get"):
            arguments = [*command, "-y", "-q", *([package] if command == ["install"] else [])]
            # No service of the package is to be started.
            subprocess.run(
                ["apt-get", *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"},
            )
    found = shutil.which(name, path=folders)
    assert found is not None, f"no {name}: install Debian's package {package!r}"
    return found
