"""Questions: their parts, what would answer them, and quotes that do; drafts and old versions give way."""

import pytest

from collegium.adapters.embedders.static import StaticEmbedder
from collegium.knowledge.answers import answer_type, found_answers
from collegium.knowledge.extractive import select
from collegium.knowledge.question import parts
from collegium.knowledge.retrieval import gather
from collegium.knowledge.standing import outdated, standing
from tests.unit.knowledge.test_library import House

LIBRARY = {
    "policies/opening-2024.md": "# Opening hours 2024\n\nIn force in 2024. Superseded by the rules of 2025.\n\n"
    "The desk opens at 07:30.\n",
    "policies/opening-2025.md": "# Opening hours 2025\n\nIn force since 2025-01-01.\n\n"
    "The desk opens at 08:15 on weekdays.\n",
    "policies/loans.md": "# Loans\n\nStatus: current.\n\nA novel may be kept for 21 days. "
    "A fine of EUR 2 is due per week after that.\n",
    "guides/desk.md": "# Desk guide\n\nStatus: current.\n\nA novel may be kept for 28 days.\n\n"
    "The reading room has 40 seats.\n",
    "guides/desk-draft.md": "# Desk guide\n\nDRAFT, not approved.\n\nA novel may be kept for 90 days.\n",
    "data/rooms.csv": "room,keeper_group,seats\nMap-Room,Cartography,12\nMusic-Room,Sound,8\n",
    "data/groups.csv": "group,head,deputy\nCartography,Ines Moreau,Paul Ostrom\nSound,Jonas Feld,Rita Blom\n",
    "data/shifts.csv": "begins,ends,librarian\n2025-03-01,2025-03-08,Ada Quist\n2025-03-08,2025-03-15,Bo Lindgren\n",
}


async def answer(question, contents=None):
    knowledge = await House(embedder=StaticEmbedder()).open(
        {path: text.encode() for path, text in (contents or LIBRARY).items()}
    )
    quotes = await select(question, await gather(knowledge, question), embedder=StaticEmbedder())
    for quote in quotes:
        assert (await knowledge.text(quote.document))[quote.start : quote.end] == quote.quote
        assert 0 <= quote.score <= 1
    return quotes


def documents(quotes):
    return [quote.document for quote in quotes]


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How long may I keep a novel?", "duration"),
        ("How much does a lost card cost?", "money"),
        ("What share of readers is under 20?", "percent"),
        ("How many seats are there?", "number"),
        ("On what date does the fair begin?", "date"),
        ("When does the desk open?", "time"),
        ("Which team looks after it?", "name"),
        ("Who is in charge when the head is away?", "person"),
        ("Is it allowed to eat in the hall when it rains?", "any"),
    ],
)
def test_a_question_tells_what_would_answer_it(question, kind):
    assert answer_type(question) == kind


def test_things_of_a_kind_are_found():
    assert found_answers("duration", "within 21 days, at most 3 weeks") == {"21 days", "3 weeks"}
    assert found_answers("money", "EUR 2 or \u20ac3.50") == {"eur 2", "\u20ac3.50"}
    assert found_answers("person", "asked by Ines Moreau today") == {"ines moreau"}
    assert found_answers("number", "on 2025-03-01 at 08:15 we had 40 seats") == {"40"}


def test_questions_come_apart():
    one, two = parts("Which group keeps the Map-Room, and who is its head?")
    assert (one.text, one.answer) == ("Which group keeps the Map-Room", "name")
    assert two.answer == "person"
    assert two.points_back
    (only,) = parts("I found a purse in the hall. To whom do I give it?")
    assert only.answer == "person"
    assert "purs" in only.terms
    assert len(parts("list the rooms")) == 1


async def test_the_sentence_that_answers_is_quoted():
    (quote,) = await answer("How many seats does the reading room have?")
    assert (quote.document, quote.quote) == ("guides/desk.md", "The reading room has 40 seats.")


async def test_the_newer_version_is_quoted_and_the_old_one_when_asked_for():
    assert set(documents(await answer("When does the desk open?"))) == {"policies/opening-2025.md"}
    assert "policies/opening-2024.md" in documents(await answer("When did the desk open in 2024?"))


async def test_documents_in_force_that_contradict_are_both_quoted_and_drafts_are_not():
    quotes = await answer("How long may a novel be kept?")
    assert set(documents(quotes)) == {"policies/loans.md", "guides/desk.md"}
    assert {"21 days", "28 days"} <= {word for q in quotes for word in ("21 days", "28 days") if word in q.quote}


async def test_a_row_is_said_with_its_columns():
    (quote,) = await answer("How many seats has the Music-Room?")
    assert quote.quote == "Music-Room,Sound,8"
    assert quote.text == "room: Music-Room; keeper group: Sound; seats: 8"


async def test_two_documents_are_joined_by_what_they_share():
    quotes = await answer("Which group keeps the Map-Room, and who is the head of that group?")
    assert "Ines Moreau" in " ".join(quote.text for quote in quotes)
    assert {"data/rooms.csv", "data/groups.csv"} == set(documents(quotes))


async def test_a_day_lies_in_a_row_of_two_dates():
    quotes = await answer("Who is the librarian on 10 March 2025?")
    assert [quote.quote for quote in quotes] == ["2025-03-08,2025-03-15,Bo Lindgren"]


@pytest.mark.parametrize(
    "question", ["Which brand of espresso machine stands in the kitchen?", "Who won the chess cup?"]
)
async def test_no_answer_is_no_quote(question):
    assert await answer(question) == ()


async def test_nothing_to_search_is_no_quote():
    assert await select("Who?", ()) == ()


async def test_words_alone_answer_too():
    knowledge = await House().open({path: text.encode() for path, text in LIBRARY.items()})
    quotes = await select("How many seats?", await gather(knowledge, "How many seats does the reading room have?"))
    assert "40 seats" in " ".join(quote.quote for quote in quotes)


def test_standing():
    texts = {
        "a/plan-v1.md": "# Plan\nVersion 1.0, 2024-02-01",
        "a/plan-v2.md": "# Plan\nVersion 2.0, 2024-08-01",
        "a/other.md": "# Other\nThis page replaces the old wiki.",
        "a/old.md": "# Old\n\nThis page is no longer valid.",
    }
    found = {path: standing(path, text) for path, text in texts.items()}
    assert outdated("What is planned?", found) == {"a/plan-v1.md", "a/old.md"}
    assert outdated("What did the previous plan say?", found) == frozenset()
    void = {"a.md": standing("a.md", "DRAFT")}
    assert outdated("What is planned?", void) == frozenset()
