"""Who is compared: shapes, the three configurations, and how long a run takes by its own plan."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from bench import __main__ as runner
from bench import plan, processes
from bench.subject import Shape
from carp.config.load import load_file


def router_of(subject, tmp_path, rank=0, shape=None):
    """Configure a program without a network."""
    port = SimpleNamespace(label="ab"[rank], namespace=None)
    return subject.router(subject, port, tmp_path, rank, shape or Shape())


@pytest.mark.parametrize("shape", [Shape(255), Shape(1, 255), Shape(4080, parents=16), Shape(7, 3), Shape(10, parents=3)])
def test_every_address_is_shared_once(shape):
    """No parent has more vhids than there are, and no two virtual hosts an address in common."""
    groups = list(shape.groups())
    assert len(groups) == shape.virtual_hosts
    assert len(set(shape.addresses())) == shape.virtual_hosts * shape.addresses_each
    assert len({(group.parent, group.vhid) for group in groups}) == len(groups)
    assert {group.parent for group in groups} == set(range(shape.parents))
    assert all(1 <= group.vhid <= 255 for group in groups)


@pytest.mark.parametrize("subject", [plan.CARPD, plan.CARPD_100, plan.CARPD_10], ids=lambda one: one.name)
def test_carpd_is_configured_with_the_timing_that_is_compared(subject, tmp_path):
    """The interval of a and the master-down time of b are what their advskews make them."""
    for rank in (0, 1):
        router_of(subject, tmp_path / str(rank), rank, Shape(3, 2, realtime=True))
    a, b = (load_file(tmp_path / str(rank) / "carp.toml") for rank in (0, 1))
    assert a.realtime
    assert [len(one.addresses) for one in a.host.interfaces] == [2, 2, 2]
    skew_a, skew_b = (one.host.interfaces[0].nodes[0].advskew for one in (a, b))
    advbase = a.host.interfaces[0].advbase
    assert subject.interval_ns == (256 * advbase + skew_a) * 10**9 // 256
    down_256 = 3 * 256 * advbase + skew_b if advbase else 3 * skew_b
    assert subject.master_down_ns == down_256 * 10**9 // 256


@pytest.mark.parametrize(
    ("subject", "words"), [(plan.KEEPALIVED, "vrrp_version 2"), (plan.KEEPALIVED_10_VMAC, "advert_int 0.01")]
)
def test_keepalived_is_configured_with_version_interval_and_mac(subject, words, tmp_path):
    """One instance for each virtual host; use_vmac only where it is compared."""
    router_of(subject, tmp_path, 1, Shape(3))
    text = (tmp_path / "keepalived.conf").read_text()
    assert words in text
    assert text.count("vrrp_instance") == 3
    assert ("use_vmac" in text) == subject.virtual_mac
    assert "vrrp_rt_priority" not in text


def test_ucarp_is_one_process_for_each_virtual_host(tmp_path):
    """Each with its own vhid and address."""
    router_of(plan.UCARP, tmp_path, 1, Shape(3))
    started = (tmp_path / "all").read_text()
    assert started.count(" ucarp ") == 3
    assert "-v 3 " in started
    assert "-a 10.112.1.3 " in started


@pytest.mark.parametrize(("quick", "minutes"), [(False, 30), (True, 3)])
def test_nothing_of_a_run_is_left_out(quick, minutes):
    """By its own estimates everything fits into the budget, and the budget into what is promised."""
    extent = plan.extent(quick=quick, stable_s=None)
    estimates = sum(step.seconds for step in runner._steps(extent))
    assert estimates <= extent.budget_s < minutes * 60


def test_stability_for_longer_has_a_longer_budget():
    """STABLE=600 measures all the rest, too."""
    extent = plan.extent(quick=False, stable_s=600)
    assert sum(step.seconds for step in runner._steps(extent)) <= extent.budget_s


def test_what_does_not_fit_is_named():
    """A step that would not end in time is left out, and the run says so."""
    played = []
    steps = [
        runner.Step(name, "m", seconds, lambda name=name: played.append(name) or ()) for name, seconds in (("a", 1), ("b", 99))
    ]
    results = SimpleNamespace(skipped=[], samples=[], seconds=0.0)
    runner._run(steps, results, budget_s=10)
    assert (played, results.skipped) == (["a"], ["b"])


def test_descendants_belong_to_a_program():
    """CPU time and memory are of the whole family, and of nobody else."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        found = processes.family(os.getpid())
        assert found[0] == os.getpid()
        assert child.pid in found
        assert processes.family(child.pid) == [child.pid]
        assert processes.pss_bytes([child.pid]) > 0
    finally:
        child.communicate()


def test_cpu_time_grows_with_work():
    """It is that of threads that live and of children that have ended."""
    before = processes.cpu_ns([os.getpid()])
    sum(range(2_000_000))
    assert processes.cpu_ns([os.getpid()]) > before
    assert processes.cpu_ns([2**22 + 1]) == 0
