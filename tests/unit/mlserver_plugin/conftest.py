"""The plug-in is delivered as a folder on the server's PYTHONPATH; so it is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "runtimes" / "mlserver" / "plugin"))
