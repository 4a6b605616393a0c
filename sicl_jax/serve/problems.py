"""What a request is answered with that cannot be served."""


class ApiError(Exception):
    """A request that is refused: an HTTP status and one line that says why."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
