"""Strings that have broken pages, tables, terminals and spreadsheets; used by every rendering test."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from auditkit.core.verdict import RuleResult

MARK = "auditkitRan"
RUN = f"window.{MARK}=1"

HTML = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"</title><script>{RUN}</script>",
    f"</textarea><script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f'<img src="x" onerror="{RUN}">',
    f'"><img src=x onerror={RUN}>',
    f"'><img src=x onerror={RUN}>",
    f"x onmouseover={RUN} y",
    f'" onfocus="{RUN}" autofocus="',
    f"' onfocus='{RUN}' autofocus='",
    f"<svg onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s>",
    f"<math><mi//xlink:href='javascript:{RUN}'>",
    f"<iframe srcdoc='<script>parent.{MARK}=1</script>'>",
    f"<iframe src='javascript:{RUN}'>",
    f"<a href='javascript:{RUN}'>x</a>",
    f"javascript:{RUN}",
    f"data:text/html,<script>{RUN}</script>",
    f"<body onload={RUN}>",
    f"<details open ontoggle={RUN}>",
    f"<input autofocus onfocus={RUN}>",
    f"<video><source onerror={RUN}>",
    f"<object data='javascript:{RUN}'>",
    "<base href='https://evil.example/'>",
    "<link rel=stylesheet href='https://evil.example/x.css'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<img src='https://evil.example/p.png'>",
    "<style>body{display:none}</style>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<p style='position:fixed;inset:0;background:red'>covered</p>",
    "</main></body></html>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<form action='https://evil.example/'><button>x</button></form>",
    "&lt;script&gt;",
    "&#60;script&#62;",
    "&amp;amp;",
    "<xmp>",
    "<plaintext>",
    "<noscript><p title='</noscript><img src=x onerror=1>'>",
    "<template><script>1</script></template>",
    "<scr\x00ipt>1</scr\x00ipt>",
)
TEMPLATES = (
    "{{ 7 * 7 }}",
    "{% for x in y %}",
    "{# note #}",
    "${7*7}",
    "<%= 7*7 %>",
    "{{ card.__class__ }}",
    "%s %d %(x)s",
)
CSS = ("expression(1)", "url(https://evil.example/)", "}body{display:none}", "\\3c script>")
MARKDOWN = (
    "a|b|c",
    "`code` ```fence```",
    "[x](javascript:alert(1))",
    "![x](https://evil.example/p.png)",
    "# head",
    "- item",
    "1. item",
    "**bold** _it_ ~~s~~",
    "https://evil.example/",
    "www.evil.example",
    "me@evil.example",
    "---",
    "===",
    "$x$",
    "> quote",
    "\n\n# second line",
    "::error file=a,line=1::x",
)
TABLES = (
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    '=HYPERLINK("https://evil.example")',
    "\t=1+1",
    "\r=1+1",
    "|cmd",
    "%0A=1",
    '"',
    "a,b",
)
TERMINAL = (
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;https://evil.example\x07x\x1b]8;;\x07",
    "\x9b31m",
    "\x07bell",
    "\x08\x08back",
    "\x7f",
)
UNICODE = (
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\u200fright",
    "\ufeffbom",
    "a\u2028b\u2029c",
    "\u200bzero",
    "\U000e0041tag",
    "\ud800lone",
    "\udfff",
    "\uffff",
    "e" + "\u0301" * 300,
    "\U0001f469\u200d\U0001f4bb",
    "\u0645\u0631\u062d\u0628\u0627",
    "\x00",
    "",
    " ",
    "x" * 5000,
    "NaN",
    "None",
    "null",
    "../../etc/passwd",
)
# Every handler on elements that fire it by themselves, in quotes of each kind, and addresses that would be fetched.
HANDLERS = tuple(
    f"{quote}><{tag} {event}={RUN}{end}"
    for quote in ("", '"', "'")
    for tag, event, end in (
        ("img src=x", "onerror", ">"),
        ("svg", "onload", "/>"),
        ("body", "onpageshow", ">"),
        ("audio src=x", "onerror", ">"),
        ("video src=x", "onerror", ">"),
        ("input autofocus", "onfocus", ">"),
        ("select autofocus", "onfocus", ">"),
        ("textarea autofocus", "onfocus", ">"),
        ("details open", "ontoggle", ">"),
        ("marquee", "onstart", ">"),
        ("style", "onload", ">"),
        ("link rel=stylesheet href=x", "onerror", ">"),
        ("iframe src=about:blank", "onload", ">"),
        ("object data=x", "onerror", ">"),
        ("embed src=x", "onload", ">"),
        ("track src=x default", "onerror", ">"),
        ("p style=animation:x", "onanimationstart", ">"),
        ("p style=transition:1s", "ontransitionend", ">"),
    )
)
FETCHES = tuple(
    form.format("https://evil.example/p")
    for form in (
        "<img srcset='{0} 1x'>",
        "<picture><source srcset={0}></picture>",
        "<image href={0}>",
        "<svg><use href='{0}#x'/></svg>",
        "<svg><image xlink:href={0} /></svg>",
        "<svg><feImage href={0} /></svg>",
        "<svg style='fill:url({0})'>",
        "<table background={0}>",
        "<input type=image src={0}>",
        "<video poster={0}>",
        "<audio src={0} autoplay>",
        "<embed src={0}>",
        "<object data={0}>",
        "<iframe src={0}>",
        "<link rel=preload as=image href={0}>",
        "<link rel=prefetch href={0}>",
        "<link rel=icon href={0}>",
        "<script src={0}></script>",
        "<script type=module>import '{0}'</script>",
        "<style>@font-face{{font-family:x;src:url({0})}}*{{font-family:x}}</style>",
        "<style>*{{background:url({0})}}</style>",
        "<div style=background:url({0})>",
        "<meta http-equiv=refresh content='0;{0}'>",
        "<a ping={0} href=#verdict>x</a>",
        "<form action={0} method=post>",
        "<body background={0}>",
        "<applet code={0}>",
        "<bgsound src={0}>",
        "<manifest href={0}>",
        "<math href={0}>x</math>",
    )
)
MORE = (
    "]]><script>1</script>",
    "--!><script>1</script>",
    "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;",
    "</pre></div></details>",
    "</svg></figure>",
    "<svg><title><p>x",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=1&gt;'>",
    "\u003cscript\u003e",
    '{"__proto__": {}}',
    "\u2028</script>",
    "#verdict",
    "id=verdict",
    "%3Cscript%3E",
    "javascript&colon;1",
    "\x1b]0;title\x07",
    "::set-output name=x::y",
    "##vso[task.setvariable]x",
    "=cmd|' /C calc'!A0",
    "+ADw-script+AD4-",
    "\ufe0f\u20e3",
    "\u0000\u0001",
)
CORPUS = HTML + HANDLERS + FETCHES + MORE + TEMPLATES + CSS + MARKDOWN + TABLES + TERMINAL + UNICODE


_KEPT = frozenset(
    {"kind", "status", "direction", "schema", "digest", "palette", "pixels", "unit_of_n", "level", "state", "task"}
)
FOR_EVIDENCE = tuple(text for text in CORPUS if not any("\ud800" <= c <= "\udfff" for c in text))


class Taker:
    """Gives one hostile string after another and remembers which."""

    def __init__(self, start: int = 0) -> None:
        self.place = start
        self.given: set[str] = set()

    def __call__(self) -> str:
        text = FOR_EVIDENCE[self.place % len(FOR_EVIDENCE)]
        self.place += 1
        self.given.add(text)
        return text or "blank"


def poison(value, take: Taker):
    """``value`` with every name and text in it, mapping keys too, replaced by a hostile string."""
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value) if f.name not in _KEPT]
        if isinstance(value, RuleResult):
            names.remove("compare")
        return dataclasses.replace(value, **{name: poison(getattr(value, name), take) for name in names})
    if isinstance(value, str):
        return take() if value else value
    if isinstance(value, tuple):
        return tuple(poison(item, take) for item in value)
    if isinstance(value, list):
        return [poison(item, take) for item in value]
    if isinstance(value, Mapping):
        return {take(): poison(item, take) for item in value.values()}
    return value
