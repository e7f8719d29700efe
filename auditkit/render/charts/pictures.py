"""Pictures side by side, as PNG files written here and carried inside the page."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from auditkit.render.charts.chart import Chart, Key
from auditkit.render.charts.svg import Child, Markup, element, joined
from auditkit.render.text import clean

_WIDEST_LINE = 8
# Browsers draw pictures of so many pixels in height everywhere.
_SHEET_HEIGHT = 4096
# Pixels of the screen that a picture is wide at the least.
_NARROWEST = 32
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One picture: ``pixels`` are ``height * width`` bytes, row by row; 128 is zero for ``signed``."""

    label: str
    height: int
    width: int
    pixels: bytes
    palette: Literal["grey", "signed", "overlay"] = "grey"

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or len(self.pixels) != self.height * self.width:
            raise ValueError(f"a picture of {self.height} x {self.width} with {len(self.pixels)} pixels")


def picture_grid(tiles: Sequence[Tile], title: str, *, note: str = "", across: int | None = None) -> Chart:
    """The pictures in a grid, each with its label.

    Args:
        tiles: The pictures.
        title: The finding, in one sentence.
        note: What a reader must know to read it.
        across: How many stand in a line, where lines belong together; on narrow screens the lines scroll sideways.
    """
    sheets, places = _sheets(tiles, clean(title))
    figures: list[Child] = []
    for tile, (sheet, top) in zip(tiles, places, strict=True):
        label = clean(tile.label)
        words = f"Picture of {label}" if label else "Picture"
        image = element("svg", element("use", href=f"#{sheet}"), viewBox=f"0 {top} {tile.width} {tile.height}",
                        role="img", aria_label=words, class_="ak-picture")  # fmt: skip
        figures.append(element("li", image, label))
    signed = any(tile.palette != "grey" for tile in tiles)
    keys = (
        (Key(css="ak-key-plus", label="speaks for the decision"), Key(css="ak-key-minus", label="speaks against it"))
        if signed
        else ()
    )
    lined = across is not None and 1 <= across <= _WIDEST_LINE
    style = f"ak-pictures ak-across-{across}" if lined else "ak-pictures"
    grid = element("ul", *figures, class_=style, role="list")
    if lined:
        grid = element("div", grid, class_="ak-scroll", role="region", tabindex="0", aria_label=f"Pictures: {title}")
    return Chart(title=clean(title), drawing=joined(sheets, grid), keys=keys, note=clean(note))


def _sheets(tiles: Sequence[Tile], title: str) -> tuple[Markup, list[tuple[str, int]]]:
    """The PNG files that hold the pictures one below the other, and for each picture its file and its first row.

    A browser takes as long for a file as for hundreds of its pixels, and each file has a palette of its own: one of
    sixteen pictures loads in a tenth of the time of sixteen and is a third smaller. Each stands between repeats of its
    own first and last rows: a browser rounds a cut to the screen's pixels, and would show a line of the next picture.
    """
    stacked: list[list[Tile]] = []
    latest: dict[tuple[str, int, int], int] = {}
    found = []
    for tile in tiles:
        kind = (tile.palette, tile.height, tile.width)
        sheet, edge = latest.get(kind), _edge(tile)
        height = tile.height + 2 * edge
        if sheet is None or (len(stacked[sheet]) + 1) * height > _SHEET_HEIGHT:
            sheet = latest[kind] = len(stacked)
            stacked.append([])
        found.append((sheet, len(stacked[sheet]) * height + edge))
        stacked[sheet].append(tile)
    images, names = [], []
    for members in stacked:
        first, pixels = members[0], b"".join(_edged(tile) for tile in members)
        whole = Tile(label="", height=len(pixels) // first.width, width=first.width, pixels=pixels,
                     palette=first.palette)  # fmt: skip
        uri = data_uri(whole)
        names.append("sheet-" + hashlib.sha256(f"{title}\0{uri}".encode()).hexdigest()[:10])
        images.append(element("image", href=uri, id=names[-1], width=float(whole.width), height=float(whole.height)))
    drawn = element("svg", element("defs", *images), class_="ak-sheet", width=0.0, height=0.0, aria_hidden="true")
    return drawn, [(names[sheet], top) for sheet, top in found]


def _edge(tile: Tile) -> int:
    """Rows of a picture in the height of a pixel of the screen where it is drawn narrowest, and one more."""
    return 1 + -(-tile.width // _NARROWEST)


def _edged(tile: Tile) -> bytes:
    edge = _edge(tile)
    return tile.pixels[: tile.width] * edge + tile.pixels + tile.pixels[-tile.width :] * edge


def overlay_grid(bases: Sequence[Tile], overlays: Sequence[Tile], title: str, *, note: str = "") -> Chart:
    """Each picture with its attribution laid over it, as one image.

    Args:
        bases: The grey pictures.
        overlays: A ``signed`` tile of the same size for each: 128 is zero, above speaks for the decision.
        title: The finding, in one sentence.
        note: What a reader must know to read it.

    Raises:
        ValueError: A picture and its overlay differ in size.
    """
    tiles = [laid_over(base, overlay) for base, overlay in zip(bases, overlays, strict=True)]
    return picture_grid(tiles, title, note=note)


def laid_over(base: Tile, overlay: Tile) -> Tile:
    """The grey picture dimmed to 16 shades, coloured where the overlay is strong: one ``overlay`` tile."""
    if (base.height, base.width) != (overlay.height, overlay.width):
        raise ValueError(
            f"a picture of {base.height} x {base.width} with an overlay of {overlay.height} x {overlay.width}"
        )
    pairs = zip(base.pixels, overlay.pixels, strict=True)
    mixed = bytes((min(15, grey >> 4) << 4) | _strength(value) for grey, value in pairs)
    return Tile(label=base.label, height=base.height, width=base.width, pixels=mixed, palette="overlay")


def _strength(value: int) -> int:
    """0 to 15: against (0 to 7, strongest first) and for (8 to 15)."""
    return min(15, max(0, round((value - 128) / 128.0 * 7.5 + 7.5)))


def tile_from_base64(label: str, height: int, width: int, pixels: str, palette: str) -> Tile | None:
    """A tile from base64 text, or ``None`` when the text is not ``height * width`` bytes."""
    try:
        raw = base64.b64decode(pixels, validate=True)
    except (binascii.Error, ValueError):
        return None
    if height < 1 or width < 1 or len(raw) != height * width:
        return None
    known: Literal["grey", "signed", "overlay"] = "grey"
    if palette in ("signed", "overlay"):
        known = palette  # type: ignore[assignment]
    return Tile(label=label, height=height, width=width, pixels=raw, palette=known)


def data_uri(tile: Tile) -> str:
    """The picture as a PNG data URI."""
    return "data:image/png;base64," + base64.b64encode(png(tile)).decode("ascii")


def png(tile: Tile) -> bytes:
    """A PNG of the tile: 8-bit grey, or 8-bit indexed with a blue-white-red palette.

    Source: PNG specification (ISO/IEC 15948), sections 11.2.1 to 11.2.4.
    """
    indexed = tile.palette != "grey"
    header = struct.pack(">IIBBBBB", tile.width, tile.height, 8, 3 if indexed else 0, 0, 0, 0)
    lines = b"".join(b"\x00" + tile.pixels[row * tile.width : (row + 1) * tile.width] for row in range(tile.height))
    chunks = [(b"IHDR", header)]
    if indexed:
        chunks.append((b"PLTE", _palette() if tile.palette == "signed" else _mixed_palette()))
    # Stored blocks would be the same bytes with every zlib; a page is smaller with deflate, and its bytes
    # are compared on one zlib only, so the plain level 9 is used.
    chunks += [(b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _palette() -> bytes:
    """256 colours: blue (0) through white (128) to vermilion (255); safe for colour-blind readers."""
    out = bytearray()
    for index in range(256):
        part = (index - 128) / 128.0
        end = (11, 82, 146) if part < 0 else (190, 66, 0)
        strength = min(1.0, abs(part))
        out += bytes(round(255 + (channel - 255) * strength) for channel in end)
    return bytes(out)


def _mixed_palette() -> bytes:
    """16 greys, each with 16 strengths of blue (against) or vermilion (for) laid over it."""
    out = bytearray()
    for index in range(256):
        grey = (index >> 4) * 17
        part = ((index & 15) - 7.5) / 7.5
        end = (11, 82, 146) if part < 0 else (190, 66, 0)
        strength = min(1.0, abs(part)) ** 1.2 * 0.85
        out += bytes(round(grey + (channel - grey) * strength) for channel in end)
    return bytes(out)
