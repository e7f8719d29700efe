"""Rows shown one by one: tokens and pictures, escaped, readable without colour, and private unless asked for."""

import base64
import dataclasses
import html
import re
import zlib

import hostile
import numpy as np
import pytest
import sample

from auditkit.core.evidence import ImageGrid, Outcome, Picture, TokenRow, TokenRows
from auditkit.core.schema import dumps, loads, seal
from auditkit.render.charts import Tile, TokenLine, picture_grid, token_lines_chart
from auditkit.render.charts.pictures import png
from auditkit.render.html.card import render_card
from auditkit.render.markdown import render_markdown
from auditkit.render.redact import redact
from auditkit.render.table import render_csv

LINE = TokenLine(label="row 7, labelled good", tokens=("so", "very", "good", "</s>"), values=(0.0, 0.3, -2.0, None))


def with_rows(**card):
    grey = base64.b64encode(bytes(range(64))).decode()
    texts = TokenRows(
        name="explain.saliency.texts",
        title="Two texts",
        rows=(
            TokenRow(label="row 7", tokens=("secretword", "good"), values=(0.5, -1.0)),
            TokenRow(label="row 9", tokens=("fine",), values=(None,)),
        ),
        unit="logit",
    )
    pictures = tuple(Picture(label=f"picture {k}", height=8, width=8, pixels=grey, palette="overlay") for k in range(4))
    grid = ImageGrid(name="explain.saliency.rows", title="Two images", pictures=pictures, raw=True, across=2)
    outcome = Outcome(analyzer="explain.saliency", version="2", status="measured", artifacts=(texts, grid))
    evidence = sample.evidence()
    return seal(dataclasses.replace(evidence, outcomes=(*evidence.outcomes, outcome), card={**evidence.card, **card}))


def test_tokens_carry_sign_and_strength_by_class_and_numbers_in_a_table():
    text = token_lines_chart([LINE], "What each token adds", unit="logit").figure().text
    assert 'so <mark class="ak-p1">very</mark> <mark class="ak-m3">good</mark> &lt;/s&gt;' in text
    assert "raises the score explained" in text
    assert "value (logit)" in text
    assert "−2" in text


def test_hostile_tokens_are_only_text():
    for word in ("<script>alert(1)</script>", '"><img onerror=x>', "a\u202eb", "&amp;", *hostile.HTML):
        line = TokenLine(label=word, tokens=(word,), values=(1.0,))
        text = token_lines_chart([line], word).figure().text
        assert "<script" not in text
        assert "<img" not in text
        assert "\u202e" not in text


def test_an_overlay_is_the_grey_picture_under_a_signed_colour():
    pixels = bytes([0 * 16 + 8, 15 * 16 + 8, 7 * 16 + 15, 7 * 16 + 0])
    data = png(Tile(label="x", height=1, width=4, pixels=pixels, palette="overlay"))
    palette = np.frombuffer(data[data.index(b"PLTE") + 4 :][:768], dtype=np.uint8).reshape(256, 3).astype(int)
    start = data.index(b"IDAT") + 4
    indices = zlib.decompress(data[start : data.index(b"IEND") - 8])[1:]
    black, white, hot, cold = (palette[index] for index in indices)
    assert black.max() < 12
    assert white.min() > 243
    assert hot[0] > hot[2] + 80
    assert cold[2] > cold[0] + 80
    lines = picture_grid([Tile(label=str(k), height=1, width=4, pixels=pixels, palette="overlay") for k in range(6)],
                         "Rows", across=3).figure().text  # fmt: skip
    assert "ak-across-3" in lines
    assert "speaks against it" in lines


def test_rows_stay_private_unless_the_card_asks_for_them():
    private = with_rows()
    assert "secretword" in dumps(private)
    for shared in (dumps(redact(private)), render_card(private), render_markdown(private, None), render_csv(private)):
        assert "secretword" not in html.unescape(shared)
    kinds = [artifact.kind for artifact in redact(private).outcomes[-1].artifacts]
    assert kinds == []
    assert sum("is left out of shared copies" in note for note in redact(private).outcomes[-1].notes) == 2
    asked = with_rows(raw=["explain.saliency.texts", "explain.saliency.rows"])
    page = render_card(asked)
    assert "secretword" in page
    assert "ak-m3" in page
    assert "ak-across-2" in page
    assert len(re.findall('class="ak-picture"', page)) >= 4
    assert "secretword" not in render_card(with_rows(raw=["explain.saliency.rows"]))


def test_the_record_survives_json():
    evidence = with_rows(raw=["explain.saliency.texts", "explain.saliency.rows"])
    assert loads(dumps(evidence)) == evidence


def test_records_check_themselves():
    with pytest.raises(ValueError, match="2 tokens with 1 values"):
        TokenRow(label="x", tokens=("a", "b"), values=(1.0,))
    with pytest.raises(ValueError, match="must be finite or None"):
        TokenRow(label="x", tokens=("a",), values=(float("nan"),))
