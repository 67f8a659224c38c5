"""The loop of an agent with tools: ask, call what was proposed, ask again, until it answers."""

from __future__ import annotations

import asyncio

from collegium.agents import recall
from collegium.agents.calls import MAX_CALLS_PER_STEP
from collegium.agents.desk import Desk
from collegium.agents.hearing import untold
from collegium.domain.chat import ChatMessage, ModelReply, ToolCall
from collegium.domain.tool import Effect, ToolResult
from collegium.tools.builtin.team import is_ask

_WRAP_UP = "You have almost used up what you may spend. Answer now with what you have; no more tool calls."


async def work(desk: Desk, *opening: ChatMessage) -> ModelReply:
    """Runs the loop and returns the reply that proposes no more calls.

    At the agent's ``max_steps``, or when most of the attempt's limits are spent, it is asked to finish without tools.
    What the user adds meanwhile is part of the next question.
    """
    talk = desk.talk
    granted = {t.name for t in desk.tools}
    specs = tuple(t.spec for t in desk.tools)
    added: tuple[ChatMessage, ...] = opening
    most = min(desk.agent.max_steps, desk.goal.limits.steps_per_task)
    while True:
        added = (*added, *await _heard(desk, added))
        is_last = talk.step >= most - 1 or talk.limits.is_nearly_spent
        if is_last and talk.step:
            added = (*added, ChatMessage(role="user", text=_WRAP_UP))
        is_old = talk.is_catching_up
        reply = await talk.ask(*added, tools=() if is_last else specs, temperature=desk.agent.temperature)
        if is_old:
            # What an earlier attempt was offered counts: its calls are begun, whatever this one may spend.
            is_last = bool(specs) and not talk.turns[-1].proposed.tools
        if not reply.tool_calls or is_last:
            return reply
        # Its own results are nobody's grant: who was shown less than all of them may look at them again.
        await _carry_out(desk, reply.tool_calls, granted | {recall.NAME} if talk.may_recall else granted)
        added = ()


async def _heard(desk: Desk, added: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    """What the user has added and no step has told the agent yet.

    It is looked for in the steps themselves: an attempt that goes on with them adds nothing a second time.
    """
    said = desk.said if desk.hear is None else await desk.hear()
    if not said:
        return ()
    steps = [m.text for turn in desk.talk.turns for m in turn.proposed.added if m.role == "user"]
    return untold(said, [*steps, *(m.text for m in added if m.role == "user")])


async def _carry_out(desk: Desk, calls: tuple[ToolCall, ...], granted: set[str]) -> tuple[ToolResult, ...]:
    """Calls that only look run at the same time; as soon as one writes, all run one after the other, as proposed.

    Questions to colleagues come last among calls that only look: the first of them closes the attempt.
    """
    calls = calls[:MAX_CALLS_PER_STEP]
    effects: dict[str, Effect] = {t.name: t.effect for t in desk.tools}
    later = {t.name for t in desk.tools if is_ask(t)}
    if all(effects.get(c.name, "pure") in ("pure", "read") for c in calls):
        looking = [
            asyncio.ensure_future(desk.talk.call(i, c, granted=granted))
            for i, c in enumerate(calls)
            if c.name not in later
        ]
        try:
            await asyncio.gather(*looking)
        except BaseException:
            # None may go on behind an attempt that is closed.
            for one in looking:
                one.cancel()
            await asyncio.gather(*looking, return_exceptions=True)
            raise
    # What is done by now gives its result again.
    return tuple([await desk.talk.call(i, c, granted=granted) for i, c in enumerate(calls)])
