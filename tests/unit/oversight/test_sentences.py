"""Sentences with their offsets: of any text, and of answers with markers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.domain.sentences import sentences
from collegium.oversight.sentences import answer_sentences

LONG = "long " * 9


def cut(text):
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Version 1.2.3 is out. See https://a.b/c.html now.", ["Version 1.2.3 is out.", "See https://a.b/c.html now."]),
        (
            "Ask Dr. Who, e.g. on Mon. or so. J. R. Smith came.",
            ["Ask Dr. Who, e.g. on Mon. or so.", "J. R. Smith came."],
        ),
        ('He said "no." Then he sat. See No. 5.', ['He said "no."', "Then he sat.", "See No. 5."]),
        (
            "- one\n- two is long. Yes.\n1. First\n2. Second",
            ["- one", "- two is long.", "Yes.", "1. First", "2. Second"],
        ),
        ("| a | b. C |\n| c | d |", ["| a | b. C |", "| c | d |"]),
        ("# Title\nText here.", ["# Title", "Text here."]),
        (f"A line that a margin {LONG}\nbroke. Next.", [f"A line that a margin {LONG}\nbroke.", "Next."]),
        ("  DNS time     300 s\n  Drain time   240 s", ["DNS time     300 s", "Drain time   240 s"]),
        ("Demurrage\n    The charge.\n\nBerth\n    A place.", ["Demurrage\n    The charge.", "Berth\n    A place."]),
        ("It costs approx. 5 EUR. Really.", ["It costs approx. 5 EUR.", "Really."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text, expected):
    assert cut(text) == expected


@given(st.text(alphabet=st.sampled_from("aB. !?\n\r-|#1[]:\u00e9\u2026"), max_size=200) | st.text(max_size=200))
def test_offsets_are_in_order_and_nothing_that_counts_is_lost(text):
    last = 0
    for start, end in sentences(text):
        assert last <= start < end
        assert text[start:end] == text[start:end].strip()
        assert not any(c.isalnum() for c in text[last:start])
        last = end
    assert not any(c.isalnum() for c in text[last:])


def test_markers_belong_to_the_sentence_before_them():
    answer = "Backups last 35 days [1]. They lie in Porto.[2][3] Who asks? [4, 5]\nSo:"
    found = answer_sentences(answer)
    assert [(s.text, s.sources, s.is_claim) for s in found] == [
        ("Backups last 35 days.", (1,), True),
        ("They lie in Porto.", (2, 3), True),
        ("Who asks?", (4, 5), False),
        ("So:", (), False),
    ]


def test_what_is_no_claim():
    for text in ("# Heading", "Sure, here is the answer.", "What now?", "---", "I hope this helps!", "The steps are:"):
        assert not any(s.is_claim for s in answer_sentences(text)), text
    (absence,) = answer_sentences("The documents do not say who owns it.")
    assert absence.is_absence


@given(st.text(alphabet=st.sampled_from("aB. [1]2,\n-?"), max_size=80))
def test_answer_sentences_lie_in_the_answer(answer):
    last = 0
    for sentence in answer_sentences(answer):
        assert last <= sentence.start < sentence.end <= len(answer)
        last = sentence.end
