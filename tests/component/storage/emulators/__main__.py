"""Make what the tests of storage use, before they run."""

from . import azurite, fake_gcs_server, registry

azurite()
fake_gcs_server()
registry()
