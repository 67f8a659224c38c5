"""``collegium models``: what can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session
from collegium.cli.text import one_line, seconds, size, tokens, usd

if TYPE_CHECKING:
    from collegium.domain.chat import ModelProfile
    from collegium.domain.usage import Usage

models = LazyGroup(
    "models",
    help="Look at models, fetch one, try one.",
    lazy={
        "ls": Lazy("collegium.cli.models:ls", "List local models, keys, and the default."),
        "pull": Lazy("collegium.cli.models:pull", "Fetch a local model."),
        "test": Lazy("collegium.cli.models:test", "Ask a model one small question."),
    },
)
QUESTION = "Answer with the one word: ready"


@command("ls")
@pass_session
def ls(session: Session) -> int:
    """List the local models, the providers whose key is set, and the model that is meant when none is named."""
    return session.execute(_ls(session))


async def _ls(session: Session) -> int:
    from collegium.config import KEY_VARIABLES, explain
    from collegium.wiring import default_model, local_models

    default = await default_model(session.settings)
    found = local_models(session.settings)
    keys = [row for row in explain(session.settings) if row.key in KEY_VARIABLES]
    if session.is_json:
        items = [
            {
                "name": f"local:{m.name}",
                "title": m.title,
                "size_bytes": m.size_bytes,
                "licence": m.licence,
                "path": None if m.path is None else str(m.path),
            }
            for m in found
        ]
        session.emit({"default": default, "items": items, "keys": [k.key for k in keys], "next": None})
        return 0
    from collegium.cli.columns import print_columns

    rows = [
        (
            (f"local:{m.name}", "cyan"),
            ("here", "green") if m.path is not None else ("not fetched", "dim"),
            size(m.size_bytes),
            (m.licence or "", "dim"),
            (m.title, "dim"),
        )
        for m in found
    ]
    print_columns(session.out, ("model", "state", "size", "licence", "what"), rows, right=("size",), is_cut=True)
    print()
    print(f"keys set: {', '.join(f'{k.key} ({k.value})' for k in keys) or 'none'}")
    print(f"default:  {one_line(default)}")
    return 0


@command("pull")
@click.argument("name")
@click.option("--sha256", metavar="HEX", help="What a file from a URL must hash to.")
@pass_session
def pull(session: Session, name: str, sha256: str | None) -> int:
    """Fetch the local model NAME, or the GGUF file at a URL (with --sha256).

    A file from a URL goes on where an interruption ended it; a model by name begins again.
    """
    return session.execute(_pull(session, name.removeprefix("local:"), sha256))


async def _pull(session: Session, name: str, sha256: str | None) -> int:
    from collegium.cli.display import display_for
    from collegium.cli.view import RunView
    from collegium.wiring import pull_model

    display = display_for(session.err, RunView(session.now))
    with display:
        display.note(f"fetching {name}")
        path = await pull_model(session.settings, name, sha256=sha256, on_pull=display.pulled)
    if session.is_json:
        session.emit({"name": f"local:{path.stem}", "path": str(path), "size_bytes": path.stat().st_size})
    else:
        print(f"local:{path.stem} is here: {path} ({size(path.stat().st_size)})")
    return 0


@command("test")
@click.argument("name")
@pass_session
def test(session: Session, name: str) -> int:
    """Ask the model NAME one small question: whether it is there, how fast it is, and what it can do."""
    return session.execute(_test(session, name))


async def _test(session: Session, name: str) -> int:
    import time

    from collegium.cli.display import display_for
    from collegium.cli.view import RunView
    from collegium.domain.chat import ChatMessage, ModelRequest

    request = ModelRequest(messages=(ChatMessage(role="user", text=QUESTION),), max_output_tokens=64)
    display = display_for(session.err, RunView(session.now))
    async with session.open(on_pull=display.pulled) as app:
        with display:
            display.note(f"opening {name}")
            model = await app.models.open(name)
            display.note(f"asking {name}")
            begun = time.perf_counter()
            reply = await model.complete(request)
            took = time.perf_counter() - begun
        profile = model.profile
    if session.is_json:
        facts = {"model": name, "reply": reply.text, "seconds": round(took, 3), "usage": _usage(reply.usage)}
        session.emit(facts | {"profile": msgspec.structs.asdict(profile)})
        return 0
    cost = f", {usd(reply.usage.cost_usd)}" if reply.is_price_known else ", price not known"
    print(f"{name} answered {one_line(reply.text)!r} in {seconds(took)} ({tokens(reply.usage.tokens)}{cost})")
    for line in abilities(profile):
        print(f"  {line}")
    return 0


def abilities(profile: ModelProfile) -> list[str]:
    """What a model can do, in sentences."""
    tool_modes = {"native": "calls tools", "schema": "calls tools through a JSON form", "none": "calls no tools"}
    price = "is free" if profile.is_local else "has no known price: a limit in dollars needs [models.prices]"
    if not profile.is_local and profile.price is not None:
        price = f"costs {usd(profile.price.input_usd)} in and {usd(profile.price.output_usd)} out, per million tokens"
    return [
        f"reads {profile.context_tokens:,} tokens at once, writes at most {profile.max_output_tokens:,}",
        tool_modes[profile.tool_mode],
        "plans by itself" if profile.can_plan else "gets its plans from the library",
        "writes answers itself" if profile.can_write else "answers are taken from the sources word by word",
        price,
    ]


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": float(usage.cost_usd),
        "model_calls": 1,
    }
