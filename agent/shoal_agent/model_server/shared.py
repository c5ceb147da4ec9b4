"""Files and folders on the volumes that agent and server share, which run as different users."""

from pathlib import Path

from shoal_agent import logs

READ_WRITE, READ, EXECUTE = 0o777, 0o644, 0o755


def folder_for_server(path: Path) -> Path:
    """A folder that the server writes into; the volume belongs to this pod alone. Blocks."""
    path.mkdir(parents=True, exist_ok=True)
    allow(path, READ_WRITE)
    return path


def allow(path: Path, mode: int) -> None:
    """Set the mode where that is needed and possible. Blocks."""
    try:
        path.chmod(mode)
    except PermissionError as error:  # the volume may belong to another user who already allows it
        logs.warning("cannot set mode", path=str(path), error=str(error))
