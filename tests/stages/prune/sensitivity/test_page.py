from html.parser import HTMLParser

from stages.prune.sensitivity.page import page_of
from stages.prune.sensitivity.scan import GroupScan, Point, SensitivityReport


def test_a_page_is_well_formed_whatever_the_names():
    groups = tuple(
        GroupScan(
            name=f"<{index}&>",
            producers=("a", "b"),
            channels=8,
            points=(Point(ratio=0.5, channels=4, accuracy=0.9 - index / 20),),
        )
        for index in range(12)
    )
    report = SensitivityReport(criterion="l2", split="validation", samples=10, baseline_accuracy=0.9, groups=groups)
    page = page_of(report, "it's <b>")
    seen = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            seen.append((tag, dict(attributes)))

    Parser().feed(page)
    tags = [tag for tag, _ in seen]
    assert tags.count("path") == 12
    assert "b" not in tags
    assert "nan" not in page
    heights = [float(attributes["y"]) for tag, attributes in seen if tag == "text" and "style" in attributes]
    assert all(abs(later - earlier) >= 15 for earlier, later in zip(sorted(heights), sorted(heights)[1:], strict=False))
