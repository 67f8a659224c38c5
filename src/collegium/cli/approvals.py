"""``collegium approvals``: what runs ask people, and the answers."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from collegium.cli.deeds import note
from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.person import user
from collegium.cli.session import Session, pass_session
from collegium.cli.text import short_id, short_question
from collegium.domain.errors import UsageError
from collegium.domain.head import FINISHED

if TYPE_CHECKING:
    from collegium.app import Collegium
    from collegium.domain.plan import Plan

approvals = LazyGroup(
    "approvals",
    help="""What runs ask people: look at questions, answer them.

    ID is a question's id, any unique part of one, or a run with one open question (an id, a part, "last").""",
    lazy={
        "ls": Lazy("collegium.cli.approvals:ls", "List the questions that wait for an answer."),
        "approve": Lazy("collegium.cli.approvals:approve", "Say yes: a call may be made, a plan be followed."),
        "reject": Lazy("collegium.cli.approvals:reject", "Say no; the agents are told why."),
    },
)
AS_USER = click.option("--as-user", metavar="NAME", help="Who answers; the user of this machine by default.")
REASON = click.option("--reason", metavar="TEXT", default="", help="For the journal, and for the agents.")
_RESUME = click.option("--resume", "is_resumed", is_flag=True, help="Go on with the run at once, here.")
_FILE = click.Path(path_type=Path)
_ID = re.compile(r"(?:apr_)?([0-9a-f]{4,})_(\d+)\Z")


@command("ls")
@pass_session
def ls(session: Session) -> int:
    """List the questions that wait for an answer, those of the newest runs first."""
    if session.server is not None:
        from collegium.cli import remote

        return session.execute(remote.list_questions(session))
    return session.execute(_ls(session))


async def _ls(session: Session) -> int:
    from collegium.cli.questions import as_document, print_question

    async with session.open() as app:
        questions = await app.approvals()
    if session.is_json:
        session.emit({"items": [as_document(q) for q in questions]})
        return 0
    if not questions:
        print("Nobody is asked anything.")
        return 0
    for question in questions:
        print_question(session.out, question, session.now())
    session.tell("`collegium approvals approve ID` or `reject ID` answers; see `--help` of both")
    return 0


@command("approve")
@click.argument("question", metavar="ID")
@REASON
@click.option("--plan", metavar="FILE", type=_FILE, help="Follow this plan instead, as JSON; only for a plan.")
@AS_USER
@_RESUME
@pass_session
def approve(
    session: Session, question: str, reason: str, plan: Path | None, as_user: str | None, *, is_resumed: bool
) -> int:
    """Say yes to ID. An answer is final: it is given once, and holds for what was asked and nothing else.

    The plan in question is in `collegium approvals ls --json`, as `arguments`: change it and give it with --plan.
    """
    return _answered(session, question, "approve", reason, plan, as_user, is_resumed=is_resumed)


@command("reject")
@click.argument("question", metavar="ID")
@REASON
@AS_USER
@_RESUME
@pass_session
def reject(session: Session, question: str, reason: str, as_user: str | None, *, is_resumed: bool) -> int:
    """Say no to ID: a call is not made and its agent is told why, a plan ends its run."""
    return _answered(session, question, "reject", reason, None, as_user, is_resumed=is_resumed)


def _answered(
    session: Session, text: str, answer: str, reason: str, plan: Path | None, as_user: str | None, *, is_resumed: bool
) -> int:
    if session.server is not None:
        from collegium.cli import remote

        return session.execute(remote.answer(session, text, answer, reason, None if plan is None else read_plan(plan)))
    code = session.execute(_answer(session, text, answer, reason, plan, user(as_user), is_told=not is_resumed))
    if code != 0 or not is_resumed or session.answered is None:
        return code
    from collegium.cli.resumption import resumed

    return session.execute(resumed(session, session.answered, None))


async def _answer(
    session: Session, text: str, answer: str, reason: str, plan: Path | None, principal: str, *, is_told: bool
) -> int:
    """Answers; ``is_told``: prints that, because nothing follows."""
    edited = None if plan is None else read_plan(plan)
    async with session.open() as app:
        approval = await find_question(app, text)
        run = await app.answer(approval, answer, principal=principal, reason=reason, plan=edited)
        await note(app, "approvals.answered", approval, reason=reason, actor=principal, answer=answer)
        status = (await run.state()).status
    session.answered = run.id
    if session.is_json and is_told:
        document = {"approval": approval, "answer": answer, "principal": principal, "run_id": run.id, "status": status}
        session.emit(document)
    elif is_told:
        print(f"{short_question(approval)}: {answer} by {principal}")
        ended = f"run {short_id(run.id)} is {status}"
        goes_on = f"where no process works on it, `collegium runs resume {short_id(run.id)}` does"
        session.tell(ended if status in FINISHED else f"{ended}; {goes_on}")
    return 0


async def find_question(app: Collegium, text: str) -> str:
    """The id of the question that ``text`` means. Raises ``UsageError`` for several or none."""
    from collegium.cli.find import find_run
    from collegium.domain.asking import run_of

    text = text.strip()
    if run_of(text) is not None:
        return text
    match = _ID.match(text)
    run = await find_run(app, match[1] if match else text)
    state = await app.state(run)
    if match:
        found = [a for a in state.approvals if a.endswith(f"_{match[2]}")]
    else:
        found = [a.id for a in state.open_approvals]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"{run} asks nothing under {text!r}: `collegium approvals ls` lists what is asked", run=run)
    shown = ", ".join(short_question(a) for a in found)
    raise UsageError(f"{run} asks {len(found)} questions: say which of {shown}", run=run, approvals=found)


def read_plan(path: Path) -> Plan:
    """The plan in a JSON file. Raises ``UsageError`` for what is none."""
    import msgspec

    from collegium.domain.plan import Plan

    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise UsageError(f"--plan {path} cannot be read: {os.strerror(error.errno or 0)}", path=str(path)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--plan {path} is no plan: {error}", path=str(path)) from error
