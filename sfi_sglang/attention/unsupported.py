"""What a survey of a model ends with if SFI cannot serve it."""


class Unsupported(Exception):
    """The reason, in words for the model's user."""
