"""An invoice as a small PDF: one page of text."""

from datetime import UTC, datetime

from stripe_double.page_html import money
from stripe_double.values import Json

_LEADING = 18
_LEFT, _TOP = 60, 760
_LINES_A_PAGE = 36


def invoice_pdf(invoice: Json) -> bytes:
    """The document."""
    day = datetime.fromtimestamp(invoice["effective_at"] or invoice["created"], UTC).strftime("%Y-%m-%d")
    texts = [
        f"Invoice {invoice['number'] or 'draft'}",
        f"Date: {day}    Status: {invoice['status']}",
        f"Bill to: {invoice['customer_name'] or ''} {invoice['customer_email'] or ''}",
        *(f"Tax id: {t['type']} {t['value']}" for t in invoice["customer_tax_ids"]),
        "",
        *(f"{money(line['amount']):>12}   {line['description']}" for line in invoice["lines"]["data"][:_LINES_A_PAGE]),
        "",
        f"Total: {money(invoice['total'])}    Due: {money(invoice['amount_due'])}    Paid: {money(invoice['amount_paid'])}",
    ]
    return _document(texts)


def _document(texts: list[str]) -> bytes:
    drawn = "\n".join(f"({_escaped(text)}) Tj T*" for text in texts)
    stream = f"BT /F1 11 Tf {_LEADING} TL {_LEFT} {_TOP} Td\n{drawn}\nET".encode("cp1252", "replace")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>",
    ]
    out = bytearray(b"%PDF-1.4\n")
    places: list[int] = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
