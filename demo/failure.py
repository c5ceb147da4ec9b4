"""The one exception that ends the demo with a message instead of a traceback."""


class DemoError(Exception):
    """Something was wrong; the message says what and where to look."""
