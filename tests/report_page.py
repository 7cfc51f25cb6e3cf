"""What a report's page shows, read out of its HTML."""

import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """Numbers by key, JSON by id, and the text of the headline."""

    def __init__(self, html):
        super().__init__()
        self.numbers: list[tuple[str, float, str]] = []
        self.data: dict[str, Any] = {}
        self.text: dict[str, str] = {}
        self.classes: list[str] = []
        self.where: tuple[str, dict[str, str]] | None = None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.classes += (found.get("class") or "").split()
        self.where = (tag, found)

    def handle_endtag(self, tag):
        self.where = None

    def handle_data(self, data):
        tag, found = self.where or (None, {})
        if tag == "span" and "data-key" in found:
            self.numbers.append((found["data-key"], float(found["data-scale"]), data))
        elif tag == "script" and found.get("type") == "application/json":
            self.data[found["id"]] = json.loads(data)
        elif tag == "h1":
            self.text["headline"] = data
        self.where = self.where if tag == "script" else None


def look_up(summary, key):
    for name in key.split("."):
        summary = summary[int(name)] if isinstance(summary, list) else summary[name]
    return summary


def wrong_numbers(shown: Page, summary: dict[str, Any], words=()) -> list[tuple[str, str]]:
    """Keys and texts of the tables' numbers that are not the JSON's, rounded. words: last parts of keys of texts."""
    wrong = []
    for key, scale, text in shown.numbers:
        if key.split(".")[-1] not in words:
            digits = text.strip("x%").replace(",", "")
            unit = 10 ** -len(digits.partition(".")[2])
            if abs(float(digits) - look_up(summary, key) * scale) > 0.501 * unit:
                wrong.append((key, text))
    return wrong
