"""Charts from plain numbers: accessible SVG with a finding, axes, a legend and a table; no other library.

>>> from auditkit.render.charts import Row, interval_chart
>>> chart = interval_chart([Row(label="F", value=0.21, low=0.17, high=0.26, n=300)], "Rate of F", label="rate")
>>> chart._repr_html_().count("<figure")
1
"""

from auditkit.render.charts.chart import Chart, Key
from auditkit.render.charts.density import density_chart
from auditkit.render.charts.heat import heat_map
from auditkit.render.charts.lines import Line, Marked, line_chart
from auditkit.render.charts.named import Choice, confusion_matrix, frontier_chart, reliability_chart, roc_chart
from auditkit.render.charts.pictures import Tile, overlay_grid, picture_grid
from auditkit.render.charts.rows import Limit, Row, bar_chart, interval_chart
from auditkit.render.charts.svg import Markup, element
from auditkit.render.charts.swarm import beeswarm_chart, dependence_chart
from auditkit.render.charts.token_lines import TokenLine, token_lines_chart
from auditkit.render.charts.tokens import token_chart

__all__ = [
    "Chart",
    "Choice",
    "Key",
    "Limit",
    "Line",
    "Marked",
    "Markup",
    "Row",
    "Tile",
    "TokenLine",
    "bar_chart",
    "beeswarm_chart",
    "confusion_matrix",
    "density_chart",
    "dependence_chart",
    "element",
    "frontier_chart",
    "heat_map",
    "interval_chart",
    "line_chart",
    "overlay_grid",
    "picture_grid",
    "reliability_chart",
    "roc_chart",
    "token_chart",
    "token_lines_chart",
]
