"""The SQLite journal against a small model: several runs, tasks, attempts, barriers and crashes."""

import asyncio
import copy
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from collegium.adapters.sqlite.store import open_store
from collegium.domain.errors import Conflict, Fenced, NotFound
from collegium.domain.head import Fence
from collegium.testing.conformance import drafts as d

RUNS, TASKS, ATTEMPTS = ["run_a", "run_b"], ["t", "u"], [1, 2, 3]
WORDS = {
    "note": lambda task, n: d.noted("x", task=task, attempt=n),
    "long note": lambda task, n: d.noted("x" * 5_000, task=task, attempt=n),
    "say": lambda task, n: d.said("x"),
    "ready": d.ready,
    "start": d.started,
    "park": d.parked,
    "settle": d.settled,
    "skip": lambda task, n: d.settled(task, None),
}
RECORDING = {"note", "long note"}


class Model:
    """What journals promise, in few words."""

    def __init__(self):
        self.events = {}
        self.deciding = {}
        self.fences = {}

    def append(self, run, words, drafts, expected, fence):
        """The class of the refusal, or None when the events are part of the model now."""
        fences = copy.deepcopy(self.fences)
        if fence and fences.get((run, fence.task), [0, 0, False])[::2] != [fence.attempt, True]:
            return Fenced
        if expected is not None and expected != self.deciding.get(run, 0):
            return Conflict
        if run not in self.events and expected is None:
            return NotFound
        if run not in self.events and set(words) <= RECORDING:
            return Conflict
        for word, draft in zip(words, drafts, strict=True):
            newest, is_started, is_open = row = fences.setdefault((run, draft.task), [0, False, False])
            if word == "ready":
                if is_open or draft.attempt != newest + 1:
                    return Conflict
                row[:] = [draft.attempt, False, True]
            elif word in {"start", "park", "settle"}:
                if not is_open or draft.attempt != newest or (word == "start" and is_started):
                    return Fenced
                row[1:] = [True, True] if word == "start" else [is_started, False]
        self.fences = fences
        events = self.events.setdefault(run, [])
        events += [draft.id for draft in drafts]
        places = [n for n, word in enumerate(words) if word not in RECORDING]
        if places:
            self.deciding[run] = len(events) - len(drafts) + places[-1] + 1
        return None


class JournalMachine(RuleBasedStateMachine):
    """``open`` holds receipts that nobody has waited for, ``past`` the models since the last barrier."""

    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.model = Model()
        self.past = [copy.deepcopy(self.model)]
        self.open = []
        self.reopen()

    def reopen(self):
        self.store = open_store(self.folder / "store.db", linger_s=0.001)

    @rule(
        run=st.sampled_from(RUNS),
        task=st.sampled_from(TASKS),
        attempt=st.sampled_from(ATTEMPTS),
        words=st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=3),
        expected=st.sampled_from(["none", "right", "right", "stale"]),
    )
    def decide(self, run, task, attempt, words, expected):
        place = {"none": None, "right": self.model.deciding.get(run, 0), "stale": 7}[expected]
        self.append(run, words, [WORDS[word](task, attempt) for word in words], expected=place)

    @rule(run=st.sampled_from(RUNS), task=st.sampled_from(TASKS))
    def go_on(self, run, task):
        """The next sensible thing for a task, so that later attempts are reached."""
        newest, is_started, is_open = self.model.fences.get((run, task), [0, False, False])
        word = "ready" if not is_open else "park" if is_started else "start"
        draft = WORDS[word](task, newest + (not is_open))
        self.append(run, [word], [draft], expected=self.model.deciding.get(run, 0))

    @rule(
        run=st.sampled_from(RUNS),
        task=st.sampled_from(TASKS),
        attempt=st.sampled_from(ATTEMPTS),
        count=st.integers(1, 3),
    )
    def record(self, run, task, attempt, count):
        drafts = [WORDS["note"](task, attempt) for _ in range(count)]
        self.append(run, ["note"] * count, drafts, fence=Fence(task=task, attempt=attempt))

    def append(self, run, words, drafts, *, expected=None, fence=None):
        head = None if set(words) <= RECORDING else d.running()
        receipt = self.store.journal.append(run, drafts, expected=expected, fence=fence, head=head)
        refusal = self.model.append(run, words, drafts, expected, fence)
        self.open.append((receipt, refusal, [draft.id for draft in drafts]))
        self.past.append(copy.deepcopy(self.model))

    @rule()
    def wait(self):
        self.runner.run(self.check_outcomes())
        self.past = [copy.deepcopy(self.model)]
        assert self.stored() == self.model.events

    async def check_outcomes(self):
        for receipt, refusal, ids in self.open:
            outcome = (await asyncio.gather(receipt.durable(), return_exceptions=True))[0]
            if refusal is None:
                assert isinstance(outcome, tuple)
                assert [event.id for event in outcome] == ids
            else:
                assert type(outcome) is refusal
        self.open = []

    @rule()
    def crash(self):
        """Whatever was not waited for may be lost, but only from its end."""
        self.store.close(drain=False)
        self.open = []
        self.reopen()
        stored = self.stored()
        fits = [model for model in self.past if model.events == stored]
        assert fits, "what is stored after a crash is a beginning of what was appended"
        self.model = fits[-1]
        self.past = [copy.deepcopy(self.model)]

    def stored(self):
        async def read():
            found = {}
            for run in RUNS:
                events = await self.store.journal.read(run)
                assert [event.seq for event in events] == list(range(1, len(events) + 1))
                if events:
                    found[run] = [event.id for event in events]
            return found

        return self.runner.run(read())

    @invariant()
    def a_barrier_leaves_a_sound_store(self):
        if not getattr(self, "store", None) or self.open:
            return

        async def check():
            journal = self.store.journal
            for run in RUNS:
                head = await journal.head(run)
                assert await journal.verify(run) is None
                assert (head and head.seq) == (len(self.model.events.get(run, ())) or None)
                assert (head and head.deciding_seq) == self.model.deciding.get(run)
            events, _ = await journal.scan()
            for run, ids in self.model.events.items():
                assert [event.id for event in events if event.run == run] == ids

        self.runner.run(check())

    def teardown(self):
        if getattr(self, "store", None):
            self.store.close()
            self.runner.close()
            shutil.rmtree(self.folder)


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=40, stateful_step_count=30)
