"""The way of news: from a fact, through one commit, to everybody who listens (spec engine.md, c and d).

``Channel.publish`` only puts a fact into a list. The first publish of a loop iteration schedules one flush, and a flush
takes what all channels hold: number, encode, mask, **commit**, and only then instructions (``after_commit``), folds,
sinks and subscribers. So nobody sees an event, and nothing starts because of one, before the log holds it; and a
hundred steps that end together cost one commit.

Three ways out, in the order of their promise:

========== ================================ ====================================================================
fold       sync, in order, may not raise    the view's state
sink       bytes, in order, nothing lost    ``-o ndjson``, ``--events``; a writer thread behind an 8 MiB buffer
subscriber async, 5 s a call, 10,000 queued handlers of ``EventBus.subscribe``; the oldest are dropped when it is slow
========== ================================ ====================================================================

The only back-pressure of the house is a full sink: while ``Channel.full``, no turn (``before_flush``) is taken; whoever
drives a run without turns awaits ``Channel.ready()``. Everything here runs on the loop's thread but the writer.
"""

from __future__ import annotations

from vrooli_cli.bus.channel import Channel, EventBus
from vrooli_cli.bus.lines import decode, event_of, replay
from vrooli_cli.bus.listeners import matches

__all__ = ["Channel", "EventBus", "decode", "event_of", "matches", "replay"]
