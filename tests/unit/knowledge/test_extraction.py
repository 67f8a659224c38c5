"""Extraction of single formats, and of files that are broken."""

import sys
from pathlib import Path

import pytest

from collegium.adapters.extract.extractor import FileExtractor
from collegium.domain.errors import UnreadableInput
from collegium.testing.conformance.extractor import check_blocks
from tests.unit.knowledge.files import HTML, docx, pdf


async def extract(path, data, **options):
    extraction = await FileExtractor(**options).extract(path, data)
    check_blocks(extraction)
    return extraction


def said(extraction):
    return [(b.kind, b.headings, extraction.text[b.start : b.end]) for b in extraction.blocks]


async def test_markdown_structure():
    text = (
        "---\ntitle: Front\n---\n# One `x`\n\npara one\nstill one\n\n- a\n  more\n- b\n\nTwo\n---\n\n"
        "| k | v |\n|---|---|\n| x | 1 |\n\n"
        "```py\n# no heading\n```\nend\n"
    )
    extraction = await extract("a.md", text.encode())
    assert extraction.title == "Front"
    assert said(extraction) == [
        ("code", (), "title: Front"),
        ("heading", ("One x",), "# One `x`"),
        ("prose", ("One x",), "para one\nstill one"),
        ("list", ("One x",), "- a\n  more"),
        ("list", ("One x",), "- b"),
        ("heading", ("One x", "Two"), "Two\n---"),
        ("table", ("One x", "Two"), "| x | 1 |"),
        ("code", ("One x", "Two"), "# no heading"),
        ("prose", ("One x", "Two"), "end"),
    ]
    assert extraction.blocks[6].columns == ("k", "v")


async def test_html_is_what_a_reader_sees():
    extraction = await extract("a.html", HTML)
    assert extraction.title == "Travel policy"
    assert extraction.text == (
        "Travel policy\n\nTake the train, if you can.\n\n- one\n- two three\n\nLimits\n\n"
        "Item | Limit\nHotel | EUR 165\n\n"
        "code  stays\n\nloose text\n\ninner\n\ntail"
    )
    assert extraction.blocks[-5].columns == ("Item", "Limit")


async def test_docx_structure():
    extraction = await extract("a.docx", docx())
    assert extraction.title == "Leave policy"
    assert extraction.text == (
        "Leave policy\n\nHow much\n\nEverybody has 28 days of leave.\n\n- ask early\n\n"
        "Kind | Length\nParental | 20 weeks\nMoving | 1 day"
    )
    assert extraction.blocks[-1].columns == ("Kind", "Length")
    assert extraction.blocks[-1].headings == ("Leave policy", "How much")


async def test_pdf_headings_paragraphs_tables_and_running_lines():
    def page(number, body):
        return [(50, 800, 9, f"ACME review - page {number}"), *body, (50, 30, 9, "confidential")]

    first = [
        (50, 760, 18, "Capacity review"),
        (50, 730, 11, "The platform has room for the spring. Two things"),
        (50, 717, 11, "must be done before the peak."),
        (50, 690, 11, "Second paragraph."),
        (50, 660, 11, "Store"), (200, 660, 11, "Growth per"), (320, 660, 11, "Full"), (200, 647, 11, "month"),
        (50, 630, 11, "ledger"), (200, 630, 11, "210 GB"), (320, 630, 11, "May 2027"),
    ]  # fmt: skip
    extraction = await extract("a.pdf", pdf(page(1, first), page(2, [(50, 760, 11, "More on page two.")])))
    assert extraction.title == "Capacity review"
    assert extraction.text == (
        "Capacity review\n\nThe platform has room for the spring. Two things must be done before the peak.\n\n"
        "Second paragraph.\n\n"
        "Store | Growth per month | Full\nledger | 210 GB | May 2027\n\nMore on page two."
    )
    assert extraction.blocks[4].columns == ("Store", "Growth per month", "Full")


@pytest.mark.parametrize(
    ("path", "data", "reason"),
    [
        ("a.pdf", b"%PDF-1.7\nnonsense", "not a whole PDF"),
        ("a.pdf", pdf([(50, 700, 11, "x")])[:300], "not a whole PDF"),
        ("a.pdf", pdf([]), "no text, only pictures"),
        ("a.docx", b"PK\x03\x04 no", "not a whole DOCX"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + b"x" * 600, "encrypted or of an old Word"),
        ("a.html", b"<html><script>1</script></html>", "no text"),
        ("a.xlsx", b"PK", "save it as CSV"),
        ("a.doc", b"\xd0\xcf", "save it as DOCX"),
        ("noise", b"\x7fELF\x00\x00", "binary data"),
    ],
)
async def test_broken_files_say_why(path, data, reason):
    with pytest.raises(UnreadableInput, match=reason):
        await extract(path, data)


async def test_an_encrypted_pdf_is_named(tmp_path):
    plain = pdf([(50, 700, 11, "x")])
    locked = plain.replace(
        b"/Root 1 0 R",
        b"/Root 1 0 R /Encrypt << /Filter /Standard /V 1 /R 2 /O ("
        + b"x" * 32
        + b") /U ("
        + b"y" * 32
        + b") /P -4 >> /ID [(a)(b)]",
    )
    with pytest.raises(UnreadableInput, match="encrypted"):
        await extract("a.pdf", locked)


async def test_a_large_file_is_refused_and_not_read():
    with pytest.raises(UnreadableInput, match="more than the 0 MB"):
        await extract("a.txt", b"x" * 2_000, max_bytes=1_000)


async def test_a_docx_that_unpacks_to_gigabytes_is_refused():
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(f"word/{number}.xml", b"0" * (100 << 20))
    with pytest.raises(UnreadableInput, match="unpacks to 600 MB"):
        await extract("a.docx", out.getvalue())


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.abort()", "broken: its reader ended"),
        ("import time; time.sleep(60)", "longer than 0.5 s"),
        ('print(\'{"missing": "pypdfium2"}\')', r"pip install 'collegium\[local\]'"),
    ],
)
async def test_what_native_code_does_stays_in_its_process(program, reason, tmp_path):
    reader = tmp_path / "reader.py"
    reader.write_text(program)
    with pytest.raises(UnreadableInput, match=reason):
        await extract("a.pdf", b"%PDF-1.4", timeout_s=0.5 if "sleep" in program else 30, readers={"pdf": reader})


async def test_a_reader_sees_no_key(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    reader = tmp_path / "reader.py"
    reader.write_text("import json, os; print(json.dumps({'error': 'keys ' + str('OPENAI_API_KEY' in os.environ)}))")
    with pytest.raises(UnreadableInput, match="keys False"):
        await extract("a.pdf", b"%PDF-1.4", readers={"pdf": reader})


async def test_files_that_nobody_here_wrote():
    root = Path(sys.prefix) / "lib"
    found = [
        p
        for pattern in ("**/*.md", "**/*.rst", "**/*.txt", "**/*.html", "**/*.json", "**/*.csv")
        for p in sorted(root.glob(pattern))[:25]
    ]
    extractor = FileExtractor()
    read, reasons = 0, []
    for path in found:
        try:
            extraction = await extractor.extract(path.name, path.read_bytes()[:500_000])
        except UnreadableInput as error:
            reasons.append(error.fields["reason"])
            continue
        check_blocks(extraction)
        read += 1
    assert read >= len(found) * 0.9
    assert all(reasons)
