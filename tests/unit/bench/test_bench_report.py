"""From samples to verdicts, pictures and the page."""

import xml.etree.ElementTree as ET

import pytest

from bench import failover, flooding, growth, report, stability, targets
from bench.plan import CARPD, CARPD_10, KEEPALIVED, KEEPALIVED_10, UCARP
from bench.plots import strip
from bench.sample import Results, Sample

SVG = "{http://www.w3.org/2000/svg}"


def results_of(*samples):
    """Return a run with samples."""
    return Results(versions={"carpd": "carpd 0"}, options={"quick": True}, samples=list(samples))


def verdict(results, what):
    """Return the verdict of the row whose name begins so."""
    (found,) = [row.verdict for row in targets.rows(results) if row.what.startswith(what)]
    return found


def crowd(subject, **values):
    """Return a sample with 255 virtual hosts."""
    return Sample(growth.MEASURE, "255", subject.name, values)


def test_a_run_is_read_as_it_was_written(tmp_path):
    """Nothing is lost on the way through the file."""
    results = results_of(Sample("m", "c", "s", {"a_ms": 1.5, "b": None}), Sample("m", "c", "s", fault="broke"))
    results.write(tmp_path / "new" / "results.json")
    assert Results.read(tmp_path / "new" / "results.json") == results


def test_without_a_measurement_there_is_no_verdict():
    """An empty run meets nothing and misses nothing."""
    assert {row.verdict for row in targets.rows(results_of())} == {targets.NOT_MEASURED}


@pytest.mark.parametrize(("late", "expected"), [((1, 4, 90), targets.MET), ((1, 6, 6), targets.MISSED), ((5.0,), targets.MET)])
def test_the_median_is_judged(late, expected):
    """One bad repetition does not miss a target, and a limit that is reached is met."""
    samples = [Sample(failover.MEASURE, "kill -9", CARPD.name, {"late_ms": one}) for one in late]
    assert verdict(results_of(*samples), "takeover after kill -9, later") == expected


def test_peers_do_not_stand_in_for_carpd():
    """What only a peer was measured at has no verdict."""
    assert (
        verdict(results_of(Sample(failover.MEASURE, "clean stop", KEEPALIVED.name, {"gap_ms": 1})), "clean stop")
        == targets.NOT_MEASURED
    )


@pytest.mark.parametrize(("ours", "expected"), [(0.2, targets.MET), (0.31, targets.MISSED)])
def test_a_backup_is_held_to_both_limits(ours, expected):
    """Three times keepalived's and a tenth of ucarp's: the smaller counts."""
    samples = [crowd(one, cpu_backup_s_per_min=cpu) for one, cpu in ((CARPD, ours), (KEEPALIVED, 0.1), (UCARP, 100))]
    assert verdict(results_of(*samples), "255 virtual hosts, CPU s/min, BACKUP") == expected


@pytest.mark.parametrize(("ours", "expected"), [(2, targets.MET), (3, targets.MISSED)])
def test_false_takeovers_are_compared_case_by_case(ours, expected):
    """No more than keepalived in the same case."""
    samples = [
        Sample(stability.MEASURE, "idle", one.name, {"false_takeovers": count})
        for one, count in ((CARPD_10, ours), (KEEPALIVED_10, 2))
    ]
    assert verdict(results_of(*samples), "false takeovers at 10 ms, idle") == expected


@pytest.mark.parametrize(("values", "expected"), [((0, 0), targets.MET), ((1, 0), targets.MISSED), ((0, 1), targets.MISSED)])
def test_one_false_takeover_or_missed_advertisement_misses_the_flood(values, expected):
    """In any kind of flood, at either host."""
    quiet = {"false_takeovers": 0, "missed_by_master": 0}
    bad = dict(zip(quiet, values, strict=True))
    samples = [
        Sample(flooding.MEASURE, "wrong version, 50,000/s at BACKUP", CARPD.name, quiet),
        Sample(flooding.MEASURE, "forged, 50,000/s at MASTER", CARPD.name, bad),
    ]
    assert verdict(results_of(*samples), "flood of 50,000") == expected


@pytest.mark.parametrize(
    ("figures", "expected"),
    [((2, 17, 65, 256), targets.MET), ((1, 2, 3000, 65025), targets.MISSED), ((5, 50, 60, 65), targets.MISSED)],
)
def test_growth_is_judged_by_a_straight_line(figures, expected):
    """A line through the medians, with its coefficient."""
    samples = [
        Sample(growth.MEASURE, str(count), CARPD.name, {"pss_master_mb": figure})
        for count, figure in zip((1, 16, 64, 255), figures, strict=True)
    ]
    assert verdict(results_of(*samples), "growth of pss, master") == expected


def test_the_fit_of_a_line_is_its_base_and_slope():
    """Least squares."""
    assert targets.line([(0, 1), (1, 3), (2, 5)]) == pytest.approx((1, 2, 1))


def test_every_repetition_is_a_dot():
    """A picture shows distributions, also of figures of zero on a logarithmic axis; it is well-formed."""
    drawn = ET.fromstring(strip("a < b", "ms", {"carpd": [0, 1, 1000], "ucarp": [5], "none": []}))
    assert len(drawn.findall(f"{SVG}circle")) == 4
    assert drawn.find(f"{SVG}text").text == "a < b"
    for dot in drawn.findall(f"{SVG}circle"):
        assert 0 <= float(dot.get("cx")) <= float(drawn.get("width"))


def test_a_larger_figure_stands_further_right():
    """On both kinds of axes."""
    for values in ([1.0, 2.0, 3.0], [-2.0, 1.0, 5.0], [1.0, 100.0, 9000.0]):
        drawn = ET.fromstring(strip("t", "ms", {"carpd": values}))
        places = [float(dot.get("cx")) for dot in drawn.findall(f"{SVG}circle")]
        assert places == sorted(set(places))


def test_the_page_shows_figures_ratios_faults_and_pictures(tmp_path):
    """A peer's figure has its ratio to carpd's at the same interval beside it."""
    results = results_of(
        *(Sample(failover.MEASURE, "kill -9", CARPD.name, {"late_ms": one}) for one in (2, 4, 6)),
        Sample(failover.MEASURE, "kill -9", CARPD_10.name, {"late_ms": 1}),
        Sample(failover.MEASURE, "kill -9", KEEPALIVED.name, {"late_ms": 8}),
        Sample(failover.MEASURE, "kill -9", UCARP.name, fault="it did not start"),
    )
    report.write(results, tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "| carpd 1 s | 4 ms (2..6) |" in page
    assert "| keepalived VRRPv2 1 s | 8 ms, x2 |" in page
    assert "it did not start" in page
    pictures = list(tmp_path.glob("*.svg"))
    assert pictures
    assert all(f"]({picture.name})" in page for picture in pictures)
