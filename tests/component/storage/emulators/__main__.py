"""Make what the tests of storage use, before they run."""

from . import azurite, fake_gcs_server

azurite()
fake_gcs_server()
