"""The one error that reading a user's object raises: it becomes a condition, so it carries a reason and a message."""


class SpecError(ValueError):
    """Something a user wrote cannot be used.

    ``reason`` is stable and CamelCase; ``message`` says what is wrong, where, and what to write instead.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
