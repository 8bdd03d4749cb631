"""The blackboard of a swarm: one for all its runs, with who wrote what, and each agent's view of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from vrooli_cli.tier2.context import BlackboardManager


class SwarmBlackboard(BlackboardManager):
    """The values that all runs of a swarm share: exports, and each task's result under its id.

    Attributes:
        writers: Key → the agents that it comes from; a key without writers is for everybody.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writers: dict[str, tuple[str, ...]] = {}
        self.frozen = False

    def write(self, values: Mapping[str, Any], author: str | None = None) -> None:
        """Write keys; a later write of the same key wins."""
        for key, value in values.items():
            self.put(key, value, () if author is None else (author,))

    def put(self, key: str, value: Any, writers: Sequence[str]) -> None:
        """Write one key that comes from several agents."""
        if self.frozen:
            return
        super().write({key: value}, writers[0] if writers else None)
        self.writers[key] = tuple(writers)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """What is written inside is dropped: a run whose log is folded again writes what stands here already."""
        self.frozen = True
        try:
            yield
        finally:
            self.frozen = False


class AgentBoard(BlackboardManager):
    """The blackboard as one agent sees it: what it writes bears its name, what it may not read is not there.

    Args:
        board: The swarm's.
        agent: Who looks; None sees everything (handlers, synthesis).
        may_read: Whether the agent may read what another one has written.
    """

    def __init__(
        self, board: SwarmBlackboard, agent: str | None = None, may_read: Callable[[str], bool] = lambda writer: True
    ) -> None:
        super().__init__()
        self._board = board
        self._agent = agent
        self._may_read = may_read

    def write(self, values: Mapping[str, Any], author: str | None = None) -> None:
        """Write keys under the agent's name."""
        self._board.write(values, author or self._agent)

    def readable(self, key: str) -> bool:
        """True when the agent may see a key, whether it is there or not."""
        return all(self._may_read(writer) for writer in self._board.writers.get(key, ()))

    def __getitem__(self, key: str) -> Any:
        if not self.readable(key):
            raise KeyError(key)
        return self._board[key]

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._board if self.readable(key))

    def __len__(self) -> int:
        return sum(1 for _ in self)
