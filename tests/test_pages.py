"""The parts of pages: escaping, Markdown, tables, charts."""

import importlib.resources
import math
import re

import pytest

from flaxbert.pages import charts, tables
from flaxbert.pages.charts import Line, chart, fewer, limits, median, nice
from flaxbert.pages.html import Html, Style, render, text_of
from flaxbert.pages.markdown import inline, read, sections

HOSTILE = "<script>alert('1')</script> & \"x\""


def test_all_text_is_escaped():
    made = str(Html("p", HOSTILE, Html("b", "&lt;"), [None, 1, ["<"]], title=HOSTILE, hidden=True, id=None))
    escaped = "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt; &amp; &quot;x&quot;"
    assert made == f'<p title="{escaped}" hidden>{escaped}<b>&amp;lt;</b>1&lt;</p>\n'
    assert text_of(Html("p", "a", Html("b", "<", 2))) == "a<2"
    assert render(["\x00a\ud800\x1b\n"]) == "\ufffda\ufffd\ufffd\n"  # no page may hold these
    assert str(Html("br")) == "<br>\n"
    assert str(Html("line", x1=1)) == '<line x1="1"/>\n'


@pytest.mark.parametrize("make", [
    lambda: Html("a", "x", href="javascript:alert(1)"), lambda: Html("img", src="https://example.org/a.png"),
    lambda: Html("img", src="data:text/html,x"), lambda: Html("br", "x"), lambda: Style("@import 'x';"),
    lambda: Style("p { background: url(x) }"), lambda: Style("</style>")])
def test_what_a_page_may_not_hold_cannot_be_made(make):
    with pytest.raises(ValueError, match=r"valid: |no content|style sheet"):
        make()


def test_the_style_sheet_has_dark_and_print_and_every_colour_of_the_charts():
    sheet = importlib.resources.files("flaxbert").joinpath("assets/report.css").read_text()
    assert "prefers-color-scheme: dark" in sheet
    assert "@media print" in sheet
    Style(sheet)
    for colour in range(charts.COLOURS):
        assert len(re.findall(rf"--c{colour}: #", sheet)) == 3  # light, dark, paper


# --- Markdown

@pytest.mark.parametrize(("text", "html"), [
    ("# A\n\n### B\n\n## C", "<h2>A</h2><h3>B</h3><h3>C</h3>"),
    ("**Bold alone**\n\nThen **bold** and *it* of\ntwo `--lines` here.",
     "<h2>Bold alone</h2><p>Then <strong>bold</strong> and <em>it</em> of two <code>--lines</code> here.</p>"),
    ("2 * 3 * 4, a_b_c, 1 < 2 & 3", "<p>2 * 3 * 4, a_b_c, 1 &lt; 2 &amp; 3</p>"),
    ("- a\n- b\n  goes on\n  - c\n\n  again\n\nend",
     "<ul><li>a</li><li>b goes on<ul><li>c</li></ul><p>again</p></li></ul><p>end</p>"),
    ("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>"),
    ("text:\n- a", "<p>text:</p><ul><li>a</li></ul>"),
    ("```bash\na  <b>\n\n# no heading\n```\nend",
     '<pre tabindex="0"><code>a  &lt;b&gt;\n\n# no heading</code></pre><p>end</p>'),
    ("<!-- record -->\n\na <b>bold</b>\n", "<p>a &lt;b&gt;bold&lt;/b&gt;</p>"),
    ("[out](https://a.b/c) [beside](../x.md) [bad](javascript:x) <https://a.b>",
     '<p><a href="https://a.b/c">out</a> <span>beside</span> <span>bad</span> '
     '<a href="https://a.b">https://a.b</a></p>'),
    ("![what it shows](figure.png)", "<p><em>what it shows</em></p>"),
    ("a\n\n---\n\nb \\*c\\* ``x`y``", "<p>a</p><p>b *c* <code>x`y</code></p>")])
def test_markdown(text, html):
    assert re.sub(r"(?<=>)\n", "", render(read(text))) == html


def test_markdown_tables():
    [made] = read("| a | `b` | c \\| d |\n| --- | ---: | :-- |\n| x | 1.5 ± 0.1 (3) | **y** |\n| z |")
    made = re.sub(r"(?<=>)\n", "", str(made))
    assert '<th scope="col">a</th><th scope="col" class="n"><code>b</code></th>' in made
    assert '<th scope="col">c | d</th></tr>' in made
    assert "<tr><td>x</td><td class=\"n\">1.5 ± 0.1 (3)</td><td><strong>y</strong></td></tr>" in made
    assert "<tr><td>z</td><td class=\"n\"></td><td></td></tr>" in made


def test_markdown_gives_pictures_to_who_has_them():
    seen = []
    made = read("# A\n\n![shows](some/figure.png)\n\n![none](no.png)", 2, lambda name, shows: (
        seen.append((name, shows)), Html("b", name) if name == "figure.png" else None)[1])
    assert seen == [("figure.png", "shows"), ("no.png", "none")]
    assert [each.name for each in made] == ["h2", "b"]


def test_sections_of_a_readme():
    text = "# Title\n\nfirst\n\n## One\na\n```\n# in code\n```\n## Two\n\nb\n"
    assert sections(text) == [("", ""), ("Title", "first"), ("One", "a\n```\n# in code\n```"), ("Two", "b")]
    assert inline("plain") == ["plain"]


# --- tables

@pytest.mark.parametrize(("cells", "right"), [
    (["1", "2.5"], True), (["+0.027 (+0.018 to +0.036)", "0 of 25", ""], True), (["–", "–"], True),
    (["0.5 ± 0.1", "no", "1", "2", "3", "4"], True), (["12 of 25 failed against 7 of 25, p = 0.2", "1"], False),
    (["yes", "2"], False), ([""], False), (["3 min", "41.8 s"], True), (["32 x 128"], True)])
def test_columns_of_numbers_are_aligned_to_the_right(cells, right):
    assert ('<td class="n">' in str(tables.wide(["a"], [[cell] for cell in cells]))) is right


@pytest.mark.parametrize(("value", "text"), [
    (0.5, "0.5000"), (1, "1"), (1234567, "1,234,567"), (None, "–"), (1e-7, "1e-07"), (2.5e8, "2.5e+08"),
    (math.nan, "nan"), (-math.inf, "-inf"), (0.0, "0.0000"), ("x", "x"), (True, "True")])
def test_numbers(value, text):
    assert tables.number(value) == text


def test_spread_is_the_samples():
    assert tables.spread([0.70, 0.72, 0.74]) == "0.7200 ± 0.0200"
    assert (tables.spread([0.5]), tables.spread([])) == ("0.5000", "–")
    assert [tables.duration(s) for s in (None, 12.34, 600, 7260)] == ["–", "12.3 s", "10 min", "2 h 01 min"]


# --- charts

CALM = [0.7, 0.6, 0.5, 0.4]


@pytest.mark.parametrize("wild", [
    [1e9] * 4, [0.7, 5.0, 5e3, 1e9], [0.7, 0.7, 2e6], [0.7, -1e12, 1e12], [25.0]])
def test_a_run_that_diverges_does_not_flatten_the_others(wild):
    low, high = limits([CALM, wild])
    assert low >= -10
    assert 0.7 <= high <= 10
    assert limits([CALM, CALM]) == (0.4, 0.7)


def test_scales_hold_what_there_is():
    assert limits([[0.0, 0.0]]) == (-0.5, 0.5)
    assert limits([[3.0], [9.0, 8.0]]) == (3.0, 9.0)
    assert limits([[1e9, 2e9]]) == (1e9, 2e9)  # nothing is calmer
    for low, high in ((0.0, 1.0), (0.38, 0.61), (-3e-5, 7e-5), (0, 123456.0), (1e9, 2e9)):
        ticks = nice(low, high)
        assert ticks[0] <= low + 1e-9 * high < high - 1e-9 * high <= ticks[-1]
        assert 4 <= len(ticks) <= 8, ticks
    assert nice(1, 18, whole=True) == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert nice(1, 3, whole=True) == [1, 2, 3]


def test_many_points_are_thinned_without_losing_the_extremes():
    points = [(n, math.sin(n)) for n in range(10_000)]
    points[5000] = (5000, 9.0)
    thin = fewer(points, 300)
    assert len(thin) <= 320
    assert thin[0] == points[0]
    assert thin[-1] == points[-1]
    assert (5000, 9.0) in thin
    assert thin == sorted(thin)
    assert fewer(points[:5], 10) == points[:5]


def test_a_chart_names_what_is_off_its_scale_and_what_was_lost():
    lines = [Line("good", [*enumerate(CALM)]),
             Line("wild", [(0, 0.7), (1, 1e9), (2, None), (3, math.nan)], 1, lost=True),
             Line("none", [(0, math.inf)], 2)]
    made = chart("loss", lines)
    text = text_of(made)
    assert "Off the scale: wild (up to 1e+09)." in text
    assert "not finite: wild." in text
    assert "none" not in text
    numbers = [float(n) for n in re.findall(r"[-\d.]+", " ".join(re.findall(r'points="([^"]*)"', str(made))))]
    assert all(0 <= n <= charts.WIDTH for n in numbers)
    assert "nan" not in str(made).lower()
    ys = [float(y) for _, y in re.findall(r"([\d.]+),([\d.]+)", re.findall(r'points="([^"]*)"', str(made))[0])]
    assert ys == sorted(ys)
    assert ys[-1] - ys[0] > 0.6 * (charts.HEIGHT - charts.TOP - charts.BOTTOM)
    assert chart("loss", lines[2:]) is None
    assert charts.css(1) == "c1"
    assert charts.css(charts.COLOURS + 2) == "c2 dashed"


def test_a_chart_of_one_point_has_a_dot():
    made = str(chart("dev", [Line("a", [(3, 0.5)], style="thin")]))
    assert made.count("<circle") == 1


def test_the_median_is_of_those_that_are_there():
    assert median([{1: 1.0, 2: 5.0}, {1: 3.0, 2: None}, {1: 1e9, 3: math.nan}]) == [(1, 3.0), (2, 5.0)]
    assert median([{1: 1.0}, {1: 2.0}]) == [(1, 1.5)]
