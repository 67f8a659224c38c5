"""Small documents made in code, for the tests of extraction and of the library."""

import io


def pdf(*pages: list[tuple[float, float, float, str]]) -> bytes:
    """A PDF whose pages hold texts at ``(x, y, size)``; parentheses and backslashes must not occur."""
    count = len(pages)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {count} /Kids [{' '.join(f'{4 + 2 * n} 0 R' for n in range(count))}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, page in enumerate(pages):
        stream = "\n".join(f"BT /F1 {size} Tf {x} {y} Td ({text}) Tj ET" for x, y, size, text in page).encode()
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * number} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n".encode() + stream + b"\nendstream")
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(f"{number} 0 obj\n".encode() + body + b"\nendobj\n")
    xref = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.write(b"".join(f"{place:010} 00000 n \n".encode() for place in places))
    out.write(f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{xref}\n%%EOF\n".encode())
    return out.getvalue()


def docx() -> bytes:
    """A Word document with a title, headings, a list and a table."""
    from docx import Document

    document = Document()
    document.add_heading("Leave policy", 0)
    document.add_heading("How much", 1)
    document.add_paragraph("Everybody has 28 days of leave.")
    document.add_paragraph("ask early", style="List Bullet")
    table = document.add_table(rows=0, cols=2)
    for cells in (("Kind", "Length"), ("Parental", "20 weeks"), ("Moving", "1 day")):
        row = table.add_row().cells
        row[0].text, row[1].text = cells
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


HTML = b"""<!doctype html><html><head><title>Ignored</title><style>p{}</style>
<script>var x;</script></head><body><nav>Menu</nav>
<h1>Travel  policy</h1><p>Take the <b>train</b>,<br>if you can.</p><ul><li>one<li>two <i>three</i></ul>
<h2>Limits</h2><table><tr><th>Item</th><th>Limit</th></tr><tr><td>Hotel</td><td>EUR&nbsp;165</td></tr></table>
<pre>code  stays</pre><div>loose <span>text</span><p>inner</p>tail</div></body></html>"""
