"""The two ways to decode that reports compare, and what readers call them."""

from typing import Literal

Mode = Literal["dense", "sfi"]
NAMES: dict[Mode, str] = {"dense": "dense", "sfi": "SFI"}
