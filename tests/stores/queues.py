"""What a fair look at a queue must give, whichever store gives it. Test helpers only; no tests."""

from __future__ import annotations

from collections.abc import Sequence

from quart_app.domain.queues import Waiting


def unfair(found: Sequence[Waiting], queue: Sequence[Waiting], limit: int) -> list[str]:
    """What is wrong with so many jobs of a queue, in which each turn should have its share.

    Args:
        found: what the store gave.
        queue: all that waits, in the order of the queue.
        limit: how many were asked for.
    """
    wrong = []
    if len(found) != min(limit, len(queue)):
        wrong.append(f"{len(found)} of {len(queue)} are given where {limit} were asked for")
    turns = {each.turn for each in queue}
    given = {turn: [each for each in found if each.turn == turn] for turn in turns}
    whole = {turn: [each for each in queue if each.turn == turn] for turn in turns}
    most = max(map(len, given.values()), default=0)
    for turn in turns:
        mine = len(given[turn])
        if given[turn] != whole[turn][:mine]:
            wrong.append(f"{turn} has not its first ones, or not in their order")
        if mine < min(most - 1, len(whole[turn])):
            wrong.append(f"{turn} has {mine}, and another has {most}")
    seen: dict[str | None, int] = dict.fromkeys(turns, 0)
    for each in found:
        seen[each.turn] += 1
        if any(seen[turn] < min(seen[each.turn] - 1, len(given[turn])) for turn in turns):
            wrong.append(f"{each.turn} comes again before others have come")
    return wrong
