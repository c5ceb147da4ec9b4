"""Which model servers `make demo SERVERS=…` knows, and whether they are to be had here.

Needs the standard library only: make asks before it builds anything.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from demo import settings
from demo.failure import DemoError

TITLES: Final[Mapping[str, str]] = {
    "triton": "Triton",
    "torchserve": "TorchServe",
    "mms": "multi-model-server",
    "djl": "DJL Serving",
    "kserve": "KServe's Python server",
    "mlserver-openvino": "OpenVINO on MLServer",
}
"""By the name of the image, as in `make image-<name>`."""
DJL_VARIABLE: Final = "SHOAL_DJL_SERVING"
_DJL_BESIDE: Final = settings.CHECKOUT.parent / "shared" / "servers" / "djl-serving-0.36.0"


def chosen(text: str) -> tuple[str, ...]:
    """The names in ``triton,mms``, each once; spaces part them as well. Raises DemoError with the names there are."""
    names = tuple(dict.fromkeys(text.replace(",", " ").split()))
    unknown = [name for name in names if name not in TITLES]
    if unknown:
        raise DemoError(f"SERVERS names {', '.join(unknown)}; there are {', '.join(TITLES)}")
    return names


def djl_parts() -> Path:
    """Where the parts of DJL Serving are that no registry has, if they are anywhere."""
    return Path(os.environ.get(DJL_VARIABLE) or _DJL_BESIDE)


def to_be_had() -> list[str]:
    """The names of those whose images can be built here; a cluster that is not ours pulls upstream's."""
    return [name for name in TITLES if name != "djl" or settings.foreign_kubeconfig() or (djl_parts() / "lib").is_dir()]


def check_to_be_had(names: tuple[str, ...]) -> None:
    """Raise DemoError for one that is not to be had here, and say what to do."""
    if set(names) - set(to_be_had()):
        raise DemoError(
            f"no package registry has DJL Serving, and its parts are not in {djl_parts()}: name their folder in "
            f"{DJL_VARIABLE} (runtimes/djl/collect.sh says what has to be in it), or leave djl out of SERVERS"
        )


def main(arguments: list[str]) -> int:
    """Say whether the demo can have these servers; if not, why. ``--here``: name those it can have."""
    if arguments == ["--here"]:
        print(*to_be_had())
        return 0
    try:
        check_to_be_had(chosen(",".join(arguments)))
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
