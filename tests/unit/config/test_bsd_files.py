"""hostname.carpN and sysctl.conf, and several boot files of one host."""

from collections.abc import Callable
from pathlib import Path

import pytest

from carp.config.boot_lines import LOG_LEVELS
from carp.config.bsd_files import BootFiles, read_files, read_hostname_files, read_rc_conf, read_sysctl_conf
from carp.config.change import Change, WrittenAddress
from carp.config.errors import ConfigError
from carp.config.ifconfig import parse

Write = Callable[..., Path]
HERE = Path()


def problems_of(read: Callable[[], BootFiles]) -> list[str]:
    """Return the lines of the problems of what is read."""
    with pytest.raises(ConfigError) as caught:
        read()
    return str(caught.value).splitlines()


def changes_of(write: Write, text: str) -> tuple[Change, ...]:
    """Return what hostname.carp0 with this text asks for."""
    write(text, "hostname.carp0")
    return read_hostname_files(HERE).changes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "inet 172.16.0.202 255.255.255.0 172.16.0.255 vhid 1 pass password1 advbase 1 advskew 0",
            "172.16.0.202/24 vhid 1 pass password1 advbase 1 advskew 0",
        ),
        (
            "inet 172.16.240.202 255.255.255.0 172.16.240.255 vhid 2 pass password2 advbase 1 advskew 100",
            "172.16.240.202/24 vhid 2 pass password2 advbase 1 advskew 100",
        ),
        (
            "inet 172.16.240.102 255.255.255.0 172.16.240.255 balancing ip carpnodes 3:0,4:100 pass password3",
            "172.16.240.102/24 balancing ip carpnodes 3:0,4:100 pass password3",
        ),
        (
            "inet 172.16.250.102 255.255.255.0 172.16.250.255 balancing ip carpnodes 5:100,6:0 pass password5",
            "172.16.250.102/24 balancing ip carpnodes 5:100,6:0 pass password5",
        ),
        ("inet6 2001:db8::100 64", "2001:db8::100/64"),
        ("inet6 alias 2001:db8::101 128 vhid 1", "2001:db8::101/128 vhid 1"),
        ("inet6 2001:db8::100/64 vhid 1", "2001:db8::100/64 vhid 1"),
        ("inet alias 192.0.2.101 255.255.255.255 192.0.2.101", "192.0.2.101/32"),
        ("inet alias 192.0.2.101 0xffffffff", "192.0.2.101/32"),
        ("inet 192.0.2.100 255.255.255.0 NONE vhid 1", "192.0.2.100/24 vhid 1"),
        ("inet 192.0.2.100/24 vhid 1 carpdev em0", "192.0.2.100/24 vhid 1 carpdev em0"),
        ("inet 192.0.2.100 netmask 255.255.255.0", "192.0.2.100/24"),
        ("up", "up"),
        ("  group lan   # of the office", "group lan"),
        ("vhid 1 \\\n  advskew 5", "vhid 1 advskew 5"),
    ],
)
def test_lines_of_hostname_files(write: Write, text: str, words: str):
    """A line is the words of ifconfig, with address, mask and broadcast told by their places."""
    assert changes_of(write, text + "\n") == (parse(["carp0", *words.split()]),)


def test_pass_phrases_in_quotes(write: Write):
    """A pass phrase with spaces stands in quotes, and its bytes need not be UTF-8."""
    assert changes_of(write, 'vhid 1 pass "two words"\n')[0].set["pass"] == "two words"
    Path("hostname.carp0").write_bytes(b"vhid 1 pass \xff\xfe\n")
    assert read_hostname_files(HERE).changes[0].set["pass"] == "\udcff\udcfe"


def test_several_lines(write: Write):
    """Each line is a change of its own, in order; comments and empty lines are none."""
    changes = changes_of(write, "# LAN\n\nvhid 1 carpdev em0\ninet 192.0.2.100 255.255.255.0\ninet alias 192.0.2.101/32\nup\n")
    assert [change.add_addresses for change in changes] == [
        (),
        (WrittenAddress("192.0.2.100", 24),),
        (WrittenAddress("192.0.2.101", 32),),
        (),
    ]
    assert changes[-1].up


def test_a_parent_that_is_named_later(write: Write):
    """The parent that a later line names is known when the first address is added."""
    first, second = changes_of(write, "inet 192.0.2.100 255.255.255.0\nvhid 1 carpdev em0\n")
    assert first.set == {"carpdev": "em0"}
    assert second.set == {"vhid": 1, "carpdev": "em0"}


def test_which_files(write: Write):
    """Files are read in the order of their numbers; copies, other interfaces and other files are not read."""
    for name in ("carp10", "carp9", "carp0.bak", "carp0~", "em0", "carp"):
        write(f"group {name.rstrip('0123456789.~')}\n" if name in ("carp10", "carp9") else "nonsense\n", f"hostname.{name}")
    write("nonsense\n", "carp.toml")
    assert [change.interface for change in read_hostname_files(HERE).changes] == ["carp9", "carp10"]


def test_no_files():
    """A directory without any file asks for nothing."""
    assert read_hostname_files(HERE) == BootFiles()


def test_all_problems_of_all_files(write: Write):
    """Every error of every file is listed with file and line."""
    write("vhid 0\n!route add default 192.0.2.1\n\ndhcp\nadvskew 255\n", "hostname.carp0")
    write("inet autoconf\ndest 192.0.2.1\nvhid 1 pass $(cat /etc/key)\nvihd 1\n", "hostname.carp1")
    write("up\n", "hostname.carp01")
    address = "a shared address is the same on all hosts: write the address"
    assert problems_of(lambda: read_hostname_files(HERE)) == [
        "hostname.carp0: line 1: vhid: 0: an integer 1..255",
        "hostname.carp0: line 2: !: a command is never run: take the line out",
        f"hostname.carp0: line 4: dhcp: {address}",
        "hostname.carp0: line 5: advskew: 255: an integer 0..254",
        "hostname.carp01: not a file of a carp interface: hostname.carp0..carp9999",
        f"hostname.carp1: line 1: autoconf: {address}",
        "hostname.carp1: line 2: dest: a carp interface is not point-to-point: leave it out",
        "hostname.carp1: line 3: a variable or command of the shell ($ or `) is never run: write its value",
        "hostname.carp1: line 4: vihd: unknown word; did you mean vhid?",
    ]


def test_a_line_number_is_that_of_its_first_line(write: Write):
    """A line that goes on after a backslash is named by its first number."""
    write("up\nvhid 1 \\\n advskew 255\nvhid 0\n", "hostname.carp0")
    assert [line.split(": ")[1] for line in problems_of(lambda: read_hostname_files(HERE))] == ["line 2", "line 4"]


def test_nothing_is_run(write: Write):
    """No command of a boot file is run, in whatever form it stands there."""
    write('!touch ran\npass "$(touch ran)"\ngroup `touch ran`\n', "hostname.carp0")
    write('cloned_interfaces="carp0 $(touch ran)"\nifconfig_carp0="!touch ran"\ntouch ran\n', "rc.conf")
    assert len(problems_of(lambda: read_files([Path("hostname.carp0"), Path("rc.conf")]))) == 5
    assert not Path("ran").exists()


def test_a_key_that_others_may_read(write: Write):
    """A file with a pass phrase that others may read is read, with a warning; without one there is nothing to hide."""
    write("vhid 1 pass secret\n", "hostname.carp0", mode=0o640)
    write("vhid 2\n", "hostname.carp1", mode=0o644)
    write('ifconfig_carp2="vhid 3 pass secret"\n', "rc.conf", mode=0o644)
    assert read_hostname_files(HERE).warnings == (
        "hostname.carp0: mode 0640 lets others read the key in it: chmod 600 hostname.carp0",
    )
    assert read_rc_conf(Path("rc.conf")).warnings == ("rc.conf: mode 0644 lets others read the key in it: chmod 600 rc.conf",)
    Path("hostname.carp0").chmod(0o600)
    assert read_hostname_files(HERE).warnings == ()


def test_no_pass_phrase_is_shown(write: Write):
    """Neither problems nor the value itself show a pass phrase."""
    write("vhid 1 pass two s3cret\npass 's3cret\npass s3cret$s3cret\n", "hostname.carp0")
    assert "s3cret" not in "\n".join(problems_of(lambda: read_hostname_files(HERE)))
    write("vhid 1 pass s3cret\n", "hostname.carp0")
    assert "s3cret" not in repr(read_hostname_files(HERE))


def test_files_that_cannot_be_read(write: Write):
    """A missing file, a missing directory and a file of a megabyte and more are problems, never a traceback."""
    write("#" * 1024 * 1024 + "\n", "sysctl.conf")
    assert problems_of(lambda: read_hostname_files(Path("nowhere"))) == ["nowhere: cannot be read: No such file or directory"]
    assert problems_of(lambda: read_files([Path("rc.conf"), Path("sysctl.conf"), Path("a\0b")])) == [
        "rc.conf: cannot be read: No such file or directory",
        "a\0b: cannot be read: not the name of a file",
        "sysctl.conf: larger than 1048576 bytes",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[...]\nnet.inet.carp.preempt=1\n", {"preempt": True}),
        ("net.inet.carp.allow = 0   # stop\n", {"allow": False}),
        ("  net.inet.carp.log=7", {"log": 7}),
        ("net.inet.carp.log=7\nnet.inet.carp.log=3\n", {"log": 3}),
        ("net.inet.carp.arpbalance?=1\n", {"arpbalance": True}),
        ("net.inet.carp.dscp=48\nnet.inet.carp.senderr_demotion_factor=0\n", {"dscp": 48, "senderr-demotion-factor": 0}),
        ("# net.inet.carp.preempt=1\nnet.inet.ip.forwarding=1\nnet.inet.carpet=1\n", {}),
        ("", {}),
    ],
)
def test_sysctl_conf(write: Write, text: str, expected: dict[str, object]):
    """Lines about carp become keys of [global], the last of a name holds, and all others are passed over."""
    assert read_sysctl_conf(write(text, "sysctl.conf")).settings == expected


def test_problems_of_sysctl_conf(write: Write):
    """Every wrong line is listed; what only counts is no setting."""
    lines = ["preempt=2", "log", "premept=1", "suppress_preempt=0", "demotion=240"]
    write("\n".join(f"net.inet.carp.{line}" for line in lines), "sysctl.conf")
    assert problems_of(lambda: read_sysctl_conf(Path("sysctl.conf"))) == [
        "sysctl.conf: line 1: net.inet.carp.preempt: 2: an integer 0..1",
        "sysctl.conf: line 2: net.inet.carp.log: = and its value are missing: an integer 0..7",
        "sysctl.conf: line 3: net.inet.carp.premept: unknown name; did you mean net.inet.carp.preempt?",
        "sysctl.conf: line 4: net.inet.carp.suppress_preempt: it is read only: leave out = and what follows",
        (
            "sysctl.conf: line 5: net.inet.carp.demotion: it counts what is wrong now and is no setting: "
            "carp sysctl net.inet.carp.demotion=N adds to it"
        ),
    ]


@pytest.mark.parametrize(
    ("system", "theirs", "ours"),
    [
        *(("openbsd", level, level) for level in range(8)),
        ("freebsd", 0, 0),
        ("freebsd", 1, 4),
        ("freebsd", 2, 6),
        ("freebsd", 100, 6),
        ("dragonfly", 0, 0),
        ("dragonfly", 1, 6),
        ("dragonfly", 2, 6),
        ("netbsd", 0, 0),
        ("netbsd", 1, 6),
    ],
)
def test_log_levels(write: Write, system: str, theirs: int, ours: int):
    """A log level of another BSD becomes the lowest of OpenBSD's that shows all that theirs shows."""
    path = write(f"net.inet.carp.log={theirs}\n", "sysctl.conf")
    assert read_sysctl_conf(path, system).settings == {"log": ours}
    assert set(LOG_LEVELS) == {"openbsd", "freebsd", "dragonfly", "netbsd"}


def test_a_log_level_is_a_number_on_every_system(write: Write):
    """What is no number is refused whoever wrote it."""
    path = write("net.inet.carp.log=all\n", "sysctl.conf")
    assert problems_of(lambda: read_sysctl_conf(path, "netbsd"))[0].startswith("sysctl.conf: line 1: net.inet.carp.log: all: ")


@pytest.mark.parametrize(
    ("rc_conf", "system", "level"),
    [
        ('ifconfig_carp0="vhid 1"\n', "dragonfly", 6),
        ('rc_configured=YES\nifconfig_carp0="vhid 1"\n', "netbsd", 6),
        ('ifconfig_em0_alias0="inet vhid 1 192.0.2.1/32"\n', "freebsd", 4),
        ('rc_parallel="YES"\ncloned_interfaces="lagg0"\n', "", 1),
    ],
)
def test_an_rc_conf_tells_whose_sysctl_conf_it_is(write: Write, rc_conf: str, system: str, level: int):
    """The log level is that of the system whose rc.conf is about carp, in whatever order the files are named."""
    paths = [write("net.inet.carp.log=1\n", "sysctl.conf"), write(rc_conf, "rc.conf")]
    found = read_files(paths)
    assert (found.system, found.settings) == (system, {"log": level})


def test_files_of_netbsd(write: Write):
    """ifconfig.carpN of NetBSD is read line by line, with its own `create`."""
    write("create\nvhid 1 carpdev wm0\ninet 192.0.2.100 netmask 255.255.255.0\n", "ifconfig.carp3")
    found = read_files([Path("ifconfig.carp3")])
    assert [change.create for change in found.changes] == [True, False, False]
    assert (found.changes[2].add_addresses, found.system) == ((WrittenAddress("192.0.2.100", 24),), "netbsd")


def test_all_files_of_a_host(write: Write):
    """Files of several kinds are read together, and an interface is created once."""
    write("create\nvhid 1\n", "hostname.carp0")
    write('cloned_interfaces="carp0 carp1"\n', "rc.conf")
    found = read_files([Path("hostname.carp0"), Path("rc.conf")])
    assert [(change.interface, change.create) for change in found.changes] == [
        ("carp0", True),
        ("carp0", False),
        ("carp0", False),
        ("carp1", True),
    ]
