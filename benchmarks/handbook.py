"""The 40 questions over the example handbook: how many answers hold the facts, and what they rest on.

    python benchmarks/handbook.py [--model NAME] [--questions FILE] [--limit N] [--json]

Every question is a run of its own through the public API, one after the other, on a fresh store; the documents are read
with the first one. Measured for each kind of question, beside the baseline "first sentence of the best passage":

* facts: answers that contain every expected fact (for questions without an answer: that say so and cite nothing);
* citations: citations that point to a document that holds the answer (any citation is wrong where there is no answer);
* supported: sentences of the answers that the overseer found supported;
* exact: citations whose quote equals the extracted text at its offsets, checked against a second extraction;
* written: answers with at least one sentence in a model's own words (the others are quoted).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from collegium import Settings, open_collegium
from collegium.adapters.extract.extractor import FileExtractor
from collegium.domain.report import RunReport
from collegium.domain.sentences import sentences

DEFAULT_MODEL = "local:smollm2-135m-instruct"
HANDBOOK = Path(__file__).parent.parent / "examples" / "handbook"
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY")
ABSENT = ("do not say", "does not say", "not mention", "no answer", "not contain", "not provide", "not specif")


class Question(msgspec.Struct, frozen=True):
    """A question, the facts its answer has to hold (any of the spellings), and the documents that hold them."""

    id: str
    question: str
    kind: str
    facts: list[list[str]]
    documents: list[str]


class Outcome(msgspec.Struct, frozen=True):
    """What became of one question."""

    id: str
    kind: str
    has_facts: bool
    baseline_has_facts: bool
    citations: int
    right: int
    exact: int
    claims: int
    supported: int
    is_written: bool
    seconds: float
    text: str


def says(text: str, facts: list[list[str]]) -> bool:
    """Whether every fact occurs in one of its spellings, case and white space aside."""
    flat = " ".join(text.lower().split())
    return all(any(" ".join(s.lower().split()) in flat for s in spellings) for spellings in facts)


def judge(question: Question, report: RunReport, first: str, texts: dict[str, str], seconds: float) -> Outcome:
    """Holds one report against what was expected."""
    answer = report.answer.text if report.answer is not None else ""
    places = report.answer.citations if report.answer is not None else ()
    is_absent = any(mark in answer.lower() for mark in ABSENT)
    wanted = (is_absent and not places) if question.kind == "none" else says(answer, question.facts)
    claims = [c for c in report.oversight.claims if c.origin != "system"]
    return Outcome(
        id=question.id,
        kind=question.kind,
        has_facts=wanted,
        baseline_has_facts=question.kind != "none" and says(first, question.facts),
        citations=len(places),
        right=sum(p.document in question.documents for p in places),
        exact=sum(texts.get(p.document, "")[p.start : p.end] == p.quote for p in places),
        claims=len(claims),
        supported=sum(c.verdict == "supported" for c in claims),
        is_written=any(c.origin == "model" for c in claims),
        seconds=seconds,
        text=answer,
    )


async def extracted(files: dict[str, bytes]) -> dict[str, str]:
    """The text of every document, extracted once more, apart from any run."""
    extractor = FileExtractor()
    return {path: (await extractor.extract(path, data)).text for path, data in files.items()}


async def measure(
    questions: list[Question],
    docs: Path,
    model: str,
    data_dir: Path,
    *,
    files: dict[str, bytes],
    is_verbose: bool,
) -> tuple[list[Outcome], float]:
    """Asks all questions; returns the outcomes and the seconds it took to read the documents."""
    texts = await extracted(files)
    outcomes: list[Outcome] = []
    async with open_collegium(Settings(data_dir=data_dir), model=model) as app:
        await app.models.open(model)
        started = time.perf_counter()
        warm = await (await app.submit("Which documents are there?", files=[str(docs)])).state()
        knowledge = await app.knowledge(warm.id)
        reading = time.perf_counter() - started
        await app.run(warm.id).cancel()
        for question in questions:
            started = time.perf_counter()
            run = await app.submit(question.question, files=[str(docs)])
            report = await run.result()
            seconds = time.perf_counter() - started
            found = await knowledge.search(question.question, limit=1)
            first = _first_sentence(found[0].chunk.text) if found else ""
            outcomes.append(judge(question, report, first, texts, seconds))
            if is_verbose:
                last = outcomes[-1]
                print(
                    f"{last.id} {'ok ' if last.has_facts else 'NOT'} {last.right}/{last.citations} {last.text!r}",
                    file=sys.stderr,
                )
    return outcomes, reading


def _first_sentence(text: str) -> str:
    spans = sentences(text)
    return text[spans[0][0] : spans[0][1]] if spans else text


def share(part: int, whole: int) -> float | None:
    """``part`` of ``whole``, or None where there is nothing to share."""
    return None if whole == 0 else part / whole


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """The figures of some outcomes."""
    return {
        "questions": len(outcomes),
        "facts": share(sum(o.has_facts for o in outcomes), len(outcomes)),
        "baseline_facts": share(sum(o.baseline_has_facts for o in outcomes), len(outcomes)),
        "citations": share(sum(o.right for o in outcomes), sum(o.citations for o in outcomes)),
        "supported": share(sum(o.supported for o in outcomes), sum(o.claims for o in outcomes)),
        "exact": share(sum(o.exact for o in outcomes), sum(o.citations for o in outcomes)),
        "written": sum(o.is_written for o in outcomes),
        "seconds_p50": statistics.median(o.seconds for o in outcomes) if outcomes else None,
        "seconds_max": max((o.seconds for o in outcomes), default=None),
    }


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Prints the table."""
    head = (
        "kind",
        "n",
        "facts",
        "baseline",
        "right citations",
        "supported",
        "quotes exact",
        "written",
        "s p50",
        "s max",
    )
    print("  ".join(f"{h:>15}" if i else f"{h:<14}" for i, h in enumerate(head)))
    for kind, r in rows.items():
        cells = [
            str(r["questions"]),
            *(_percent(r[k]) for k in ("facts", "baseline_facts", "citations", "supported", "exact")),
            str(r["written"]),
            f"{r['seconds_p50']:.2f}",
            f"{r['seconds_max']:.2f}",
        ]
        print("  ".join([f"{kind:<14}", *(f"{c:>15}" for c in cells)]))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description="The example handbook's questions, asked and checked.")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("COLLEGIUM_DATA", HANDBOOK)))
    parser.add_argument("--questions", type=Path, help="default: questions.json in the data folder")
    parser.add_argument("--limit", type=int, help="ask only so many, spread over all kinds")
    parser.add_argument("--verbose", action="store_true", help="print each answer to stderr")
    parser.add_argument("--json", action="store_true", help="print one JSON document on the last line")
    options = parser.parse_args()
    for name in KEYS:
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)
    file = options.questions or options.data / "questions.json"
    questions = msgspec.json.decode(file.read_bytes(), type=list[Question])
    if options.limit:
        step = max(1, len(questions) // options.limit)
        questions = questions[::step][: options.limit]
    with tempfile.TemporaryDirectory() as folder:
        docs = options.data / "docs"
        files = {p.relative_to(docs).as_posix(): p.read_bytes() for p in sorted(docs.rglob("*")) if p.is_file()}
        asked = measure(questions, docs, options.model, Path(folder), files=files, is_verbose=options.verbose)
        outcomes, reading = asyncio.run(asked)
    kinds = sorted({o.kind for o in outcomes})
    rows = {k: summary([o for o in outcomes if o.kind == k]) for k in kinds} | {"all": summary(outcomes)}
    print(f"model {options.model}; {len(outcomes)} questions; documents read in {reading:.2f} s")
    show(rows)
    if options.json:
        document = {
            "model": options.model,
            "reading_s": reading,
            "kinds": rows,
            "outcomes": msgspec.to_builtins(outcomes),
        }
        print(json.dumps(document))


if __name__ == "__main__":
    main()
