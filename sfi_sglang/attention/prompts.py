"""A prompt of a prefill pass that extends sparsely, as the kernels' tables are made of it."""

from dataclasses import dataclass

from sfi_sglang.attention.sparse_extend import Sparsity
from sfi_sglang.kernels.block_mass import BLOCK_TOKENS


@dataclass(frozen=True)
class Prompt:
    """line: of req_to_token. rows: of q. sparse: how many of them, the first ones, see a part of the prefix. prefix:
    tokens before them."""

    line: int
    rows: range
    sparse: int
    prefix: int
    how: Sparsity

    @property
    def first(self) -> range:
        """Row of q of each group's first token."""
        return self.rows[: self.sparse : self.how.group]

    @property
    def ends(self) -> list[int]:
        """New tokens up to the last one of each group."""
        return [*range(self.how.group, self.sparse, self.how.group), self.sparse]

    @property
    def end(self) -> range:
        """Rows of q that attend to everything."""
        return self.rows[self.sparse :]

    @property
    def chosen(self) -> int:
        """Blocks of each group."""
        return -(-self.how.budget // BLOCK_TOKENS)

    @property
    def blocks(self) -> range:
        """To choose from."""
        candidates = self.how.candidates(self.prefix)
        return range(candidates.start // BLOCK_TOKENS, candidates.stop // BLOCK_TOKENS)

    @property
    def sink(self) -> int:
        """Tokens of the prefix that come before them."""
        return self.blocks.start * BLOCK_TOKENS

    @property
    def recent(self) -> int:
        """Position of the first token after them."""
        return self.blocks.stop * BLOCK_TOKENS

    def visible(self, new: int) -> int:
        """Tokens that the last of the first `new` ones sees."""
        return self.sink + self.chosen * BLOCK_TOKENS + self.prefix + new - self.recent
