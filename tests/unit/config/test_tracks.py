"""Tracks: what may be checked, how often, and whom it demotes."""

import tomllib
from pathlib import Path

import pytest

from carp.attendant.orders import AT_ONCE, Check, CheckKind
from carp.config import targets
from carp.config.errors import ConfigError, key_text
from carp.config.load import Source, load_document, load_file
from carp.config.model import TrackTable, keys_of
from carp.config.programs import PROGRAM
from carp.config.track import KINDS, Track
from carp.config.write import complete, public, to_toml

GOOD = '[carp0]\ncarpdev = "eth0"\nvhid = 1\npass = "secret"\naddresses = ["192.0.2.1/24"]\n'
RUNNING = Source(key_text, Path(), incomplete_ok=True)
CARP0 = {"carpdev": "eth0", "vhid": 1, "pass": "secret", "addresses": ["192.0.2.1/24"]}
SECOND = 1_000_000_000


@pytest.fixture
def track(write):
    """Return the only track of a file in which [track.uplink] has the given lines."""

    def _track(lines):
        (found,) = load_file(write(f"{GOOD}[track.uplink]\n{lines}\n")).tracks
        return found

    return _track


@pytest.fixture
def wrong(refused):
    """Return the problems of a file in which [track.uplink] has the given lines, without their common beginning."""

    def _wrong(lines):
        problems = refused(f"{GOOD}[track.uplink]\n{lines}\n")
        assert all(line.startswith("carp.toml: track.uplink") for line in problems)
        return [line.removeprefix("carp.toml: track.uplink").removeprefix(".") for line in problems]

    return _wrong


def test_every_kind_has_its_key():
    """The keys are the kinds that the attendant knows but for the start of the host; each is a key of the table."""
    assert KINDS.keys() == {kind.value for kind in CheckKind} - {"boot"}
    assert KINDS.keys() <= keys_of(TrackTable).keys()


def test_defaults(track):
    """A track looks every second, waits a second, fails at the third and holds again at the second, and demotes carp by 1."""
    check = Check("uplink", CheckKind.PING, "192.0.2.1", interval_ns=SECOND, timeout_ns=SECOND, rise=2, fall=3)
    assert track('ping = "192.0.2.1"') == Track(check, 1, frozenset({"carp"}))


def test_every_key(track):
    """Every key reaches the check or its track."""
    lines = """
    http = "https://192.0.2.1:8443/health?a=b"
    status = [204, 200, 200]
    verify-tls = false
    demote = 255
    groups = ["all", "carp0", "carp"]
    interval = 0.1
    timeout = 3600
    rise = 100
    fall = 1
    """
    url = "https://192.0.2.1:8443/health?a=b"
    check = Check(
        "uplink",
        CheckKind.HTTP,
        url,
        status=(200, 204),
        verify_tls=False,
        interval_ns=SECOND // 10,
        timeout_ns=3600 * SECOND,
        rise=100,
        fall=1,
    )
    assert track(lines) == Track(check, 255, frozenset({"all", "carp0", "carp"}))


@pytest.mark.parametrize(
    ("line", "kind", "target"),
    [
        ('interface = "eth0.100"', CheckKind.INTERFACE, "eth0.100"),
        ('address = "192.0.2.7"', CheckKind.ADDRESS, "192.0.2.7"),
        ('address = "2001:DB8:0::7"', CheckKind.ADDRESS, "2001:db8::7"),
        ('address = "127.0.0.53"', CheckKind.ADDRESS, "127.0.0.53"),
        ('address = "fe80::1"', CheckKind.ADDRESS, "fe80::1"),
        ('route = "default"', CheckKind.ROUTE, "default"),
        ('route = "0.0.0.0/0"', CheckKind.ROUTE, "0.0.0.0/0"),
        ('route = "::/0"', CheckKind.ROUTE, "::/0"),
        ('route = "2001:db8::/32"', CheckKind.ROUTE, "2001:db8::/32"),
        ('route = "192.0.2.1/32"', CheckKind.ROUTE, "192.0.2.1/32"),
        ('process = "x"', CheckKind.PROCESS, "x"),
        ('process = "tmux: server"', CheckKind.PROCESS, "tmux: server"),
        ('process = "fifteen-bytes-x"', CheckKind.PROCESS, "fifteen-bytes-x"),
        ('pid-file = "/run/absent.pid"', CheckKind.PID_FILE, "/run/absent.pid"),
        ('file = "/run/absent flag"', CheckKind.FILE, "/run/absent flag"),
        ('tcp = "127.0.0.1:80"', CheckKind.TCP, "127.0.0.1:80"),
        ('tcp = "localhost:65535"', CheckKind.TCP, "localhost:65535"),
        ('tcp = "a_b.example.org.:1"', CheckKind.TCP, "a_b.example.org.:1"),
        ('tcp = "[2001:DB8::1]:443"', CheckKind.TCP, "[2001:db8::1]:443"),
        ('tcp = "[fe80::1%eth0]:443"', CheckKind.TCP, "[fe80::1%eth0]:443"),
        ('tcp = "[::1]:443"', CheckKind.TCP, "[::1]:443"),
        ('http = "http://localhost"', CheckKind.HTTP, "http://localhost"),
        ('http = "HTTPS://Example.org:8443/a@b"', CheckKind.HTTP, "HTTPS://Example.org:8443/a@b"),
        ('http = "http://[::1]:80/"', CheckKind.HTTP, "http://[::1]:80/"),
        ('http = "http://[2001:db8::1]?x"', CheckKind.HTTP, "http://[2001:db8::1]?x"),
        ('ping = "2001:DB8::1"', CheckKind.PING, "2001:db8::1"),
        ('ping = "fe80::1%eth0"', CheckKind.PING, "fe80::1%eth0"),
        ('ping = "127.0.0.1"', CheckKind.PING, "127.0.0.1"),
    ],
)
def test_targets(track, line, kind, target):
    """What is checked is told as it was written, addresses in the form in which they can be compared."""
    check = track(line).check
    assert (check.kind, check.target, check.argv, check.device) == (kind, target, (), "")
    expected = (1, 1) if kind in AT_ONCE else (2, 3)
    assert (check.rise, check.fall) == expected


def test_script(track, program):
    """A script is a path, or a program and its arguments."""
    path = str(program("a check"))
    check = track(f'script = "{path}"').check
    assert (check.argv, check.target) == ((path,), f"'{path}'")
    check = track(f'script = ["{path}", "eth0", "a b"]').check
    assert (check.argv, check.target) == ((path, "eth0", "a b"), f"'{path}' eth0 'a b'")


def test_device(track):
    """An address and a route may be those of one interface."""
    assert track('route = "default"\ndevice = "eth1"').check.device == "eth1"
    assert track('address = "fe80::1"\ndevice = "eth1"').check.device == "eth1"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('interface = ""', f'"" is not allowed: {targets.INTERFACE}'),
        ('interface = "carp1"', f'"carp1" is not allowed: {targets.INTERFACE}'),
        ('interface = "sixteen-bytes-xx"', f'"sixteen-bytes-xx" is not allowed: {targets.INTERFACE}'),
        ("interface = 1", f"1 is not allowed: {targets.INTERFACE}"),
        ('address = "192.0.2.1/24"', f'"192.0.2.1/24" is not allowed: {targets.ADDRESS}'),
        (
            'address = "fe80::1%eth0"',
            f'"fe80::1%eth0" is not allowed: {targets.ADDRESS}; write "fe80::1" and device = "eth0"',
        ),
        ('address = "::"', '"::" is not allowed: an address that a host can have: not unspecified or multicast'),
        ('address = "224.0.0.1"', '"224.0.0.1" is not allowed: an address that a host can have: not unspecified or multicast'),
        ("address = 1", f"1 is not allowed: {targets.ADDRESS}"),
        ('route = "192.0.2.1/24"', f'"192.0.2.1/24" is not allowed: {targets.ROUTE}; write 192.0.2.0/24'),
        ('route = "192.0.2.0"', f'"192.0.2.0" is not allowed: {targets.ROUTE}; write 192.0.2.0/32'),
        ('route = "2001:DB8::/32"', f'"2001:DB8::/32" is not allowed: {targets.ROUTE}; write 2001:db8::/32'),
        ('route = "Default"', f'"Default" is not allowed: {targets.ROUTE}'),
        ('route = "fe80::%eth0/64"', f'"fe80::%eth0/64" is not allowed: {targets.ROUTE}'),
        ("route = 0", f"0 is not allowed: {targets.ROUTE}"),
        ('process = ""', f'"" is not allowed: {targets.PROCESS}'),
        ('process = "sixteen-bytes-xx"', f'"sixteen-bytes-xx" is not allowed: {targets.PROCESS}'),
        ('process = "ümläutümläut"', f'"\\u00fcml\\u00e4ut\\u00fcml\\u00e4ut" is not allowed: {targets.PROCESS}'),
        ('process = "/usr/bin/bird"', f'"/usr/bin/bird" is not allowed: {targets.PROCESS}; write bird'),
        ('process = "/usr/bin/"', f'"/usr/bin/" is not allowed: {targets.PROCESS}'),
        ('process = "a\\n"', f'"a\\n" is not allowed: {targets.PROCESS}'),
        ("process = 1", f"1 is not allowed: {targets.PROCESS}"),
        ('pid-file = "bird.pid"', f'"bird.pid" is not allowed: {targets.PATH}'),
        ('pid-file = ""', f'"" is not allowed: {targets.PATH}'),
        ('file = "/a\\u0000b"', f'"/a\\u0000b" is not allowed: {targets.PATH}'),
        ("file = 1", f"1 is not allowed: {targets.PATH}"),
        ('script = "check"', f'"check" is not allowed: {PROGRAM}'),
        ('script = "/etc/absent"', "/etc/absent: cannot be run: No such file or directory"),
        ('tcp = "192.0.2.1"', f'"192.0.2.1" is not allowed: {targets.TCP}'),
        ('tcp = ":80"', f'":80" is not allowed: {targets.TCP}'),
        ('tcp = "::1:80"', f'"::1:80" is not allowed: {targets.TCP}'),
        ('tcp = "[192.0.2.1]:80"', f'"[192.0.2.1]:80" is not allowed: {targets.TCP}'),
        ('tcp = "[::1]80"', f'"[::1]80" is not allowed: {targets.TCP}'),
        ('tcp = "a:0"', f'"a:0" is not allowed: {targets.TCP}'),
        ('tcp = "a:080"', f'"a:080" is not allowed: {targets.TCP}'),
        ('tcp = "a:65536"', f'"a:65536" is not allowed: {targets.TCP}'),
        ('tcp = "a:http"', f'"a:http" is not allowed: {targets.TCP}'),
        ('tcp = "a:80\\n"', f'"a:80\\n" is not allowed: {targets.TCP}'),
        ('tcp = "-a:80"', f'"-a:80" is not allowed: {targets.TCP}'),
        ('tcp = "a..b:80"', f'"a..b:80" is not allowed: {targets.TCP}'),
        ('tcp = "192.0.2.256:80"', f'"192.0.2.256:80" is not allowed: {targets.TCP}'),
        ('tcp = "224.0.0.1:80"', f'"224.0.0.1:80" is not allowed: {targets.TCP}'),
        (
            'tcp = "[fe80::1]:80"',
            '"[fe80::1]:80" is not allowed: a link-local address with its interface; write it as fe80::1%eth0',
        ),
        (
            'tcp = "[2001:db8::1%eth0]:80"',
            ('"[2001:db8::1%eth0]:80" is not allowed: an interface with a link-local address alone; write it without %eth0'),
        ),
        ("tcp = 80", f"80 is not allowed: {targets.TCP}"),
        ('http = "192.0.2.1"', f'"192.0.2.1" is not allowed: {targets.HTTP}'),
        ('http = "ftp://192.0.2.1/"', f'"ftp://192.0.2.1/" is not allowed: {targets.HTTP}'),
        ('http = "http:///x"', f'"http:///x" is not allowed: {targets.HTTP}'),
        ('http = "http://a:0/"', f'"http://a:0/" is not allowed: {targets.HTTP}'),
        ('http = "http://a:/"', f'"http://a:/" is not allowed: {targets.HTTP}'),
        ('http = "http://a b/"', '"http://a b/" is not allowed: {}; other characters than printable ASCII are written as %XX'),
        (
            'http = "http://a/ä"',
            '"http://a/\\u00e4" is not allowed: {}; other characters than printable ASCII are written as %XX',
        ),
        ('http = "http://a/#b"', '"http://a/#b" is not allowed: a URL without #, which no server is told'),
        ('http = "http://user:hush@a/"', "it would be shown with its password: a URL without user and password"),
        ('http = "http://hush@a b/"', "it would be shown with its password: a URL without user and password"),
        ('http = "http://300.1.1.1/"', f'"http://300.1.1.1/" is not allowed: {targets.HTTP}'),
        ('http = "http://[::1]x/"', f'"http://[::1]x/" is not allowed: {targets.HTTP}'),
        ('http = "http://[::1/"', f'"http://[::1/" is not allowed: {targets.HTTP}'),
        (
            'http = "http://[fe80::1%25eth0]/"',
            (
                '"http://[fe80::1%25eth0]/" is not allowed: '
                "a host name, or an address that is not link-local: a URL cannot name the interface"
            ),
        ),
        ("http = 80", f"80 is not allowed: {targets.HTTP}"),
        ('ping = "gateway"', f'"gateway" is not allowed: {targets.PING}'),
        ('ping = "192.0.2.1/32"', f'"192.0.2.1/32" is not allowed: {targets.PING}'),
        ('ping = "fe80::1"', '"fe80::1" is not allowed: a link-local address with its interface; write it as fe80::1%eth0'),
        ('ping = "fe80::1%carp0"', f'"fe80::1%carp0" is not allowed: {targets.INTERFACE}'),
        ('ping = "0.0.0.0"', '"0.0.0.0" is not allowed: an address of one host: not unspecified, multicast or broadcast'),
        (
            'ping = "ff02::1%eth0"',
            '"ff02::1%eth0" is not allowed: an address of one host: not unspecified, multicast or broadcast',
        ),
        (
            'ping = "255.255.255.255"',
            '"255.255.255.255" is not allowed: an address of one host: not unspecified, multicast or broadcast',
        ),
    ],
)
def test_targets_refused(wrong, line, expected):
    """A target that could not be checked is refused with what would do, whatever kind it is."""
    assert wrong(line) == [f"{line.split(' = ')[0]}: {expected.replace('{}', targets.HTTP)}"]


def test_passwords_in_urls_are_not_shown(wrong):
    """A configuration is shown to whoever may read the status: a URL with a password is refused, and not shown."""
    assert "hush" not in wrong('http = "http://user:hush@192.0.2.1/"')[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("demote = 0", "demote: 0 is not allowed: an integer 1..255"),
        ("demote = 256", "demote: 256 is not allowed: an integer 1..255"),
        ("interval = 0.09", "interval: 0.09 is not allowed: a number of seconds, 0.1..3600"),
        ("interval = 3601", "interval: 3601 is not allowed: a number of seconds, 0.1..3600"),
        ("interval = inf", "interval: inf is not allowed: a number of seconds, 0.1..3600"),
        ("timeout = 0", "timeout: 0 is not allowed: a number of seconds, more than 0, at most 3600"),
        ("timeout = 3601", "timeout: 3601 is not allowed: a number of seconds, more than 0, at most 3600"),
        ("rise = 0", "rise: 0 is not allowed: an integer 1..100"),
        ("rise = 101", "rise: 101 is not allowed: an integer 1..100"),
        ("fall = 0", "fall: 0 is not allowed: an integer 1..100"),
        ("fall = 1.5", "fall: 1.5 is not allowed: an integer 1..100"),
        ("fall = true", "fall: true is not allowed: an integer 1..100"),
        ("status = [99]", "status: 99 is not allowed: a list of 1..500 status codes 100..599, such as [200, 204]"),
        ("status = [200, 600]", "status: 600 is not allowed: a list of 1..500 status codes 100..599, such as [200, 204]"),
        ("status = []", "status: an empty list is not allowed: a list of 1..500 status codes 100..599, such as [200, 204]"),
        ("status = 200", "status: 200 is not allowed: a list of 1..500 status codes 100..599, such as [200, 204]"),
        ("verify-tls = 0", "verify-tls: 0 is not allowed: true or false"),
        ("intervall = 1", "intervall: unknown key; did you mean interval?"),
        ("verify_tls = false", "verify_tls: unknown key; did you mean verify-tls?"),
        ("boot = true", "boot: unknown key"),
        ("groups = []", 'groups: an empty list is not allowed: a list of groups, such as ["carp"]'),
        ('groups = "carp"', 'groups: "carp" is not allowed: a list of groups, such as ["carp"]'),
        ('groups = ["carp01"]', 'groups: "carp01" is not allowed: a group, carp0..carp9999, or all'),
        ("groups = [1]", "groups: 1 is not allowed: a group, carp0..carp9999, or all"),
    ],
)
def test_values_refused(wrong, line, expected):
    """A value out of range or of another type is shown, with what is allowed."""
    assert wrong(f'http = "http://a/"\n{line}') == [expected]


@pytest.mark.parametrize("line", ['interface = "eth0"', 'address = "192.0.2.1"', 'route = "default"'])
def test_told_at_once(wrong, line):
    """What the kernel tells by itself has no interval, no time to wait, and no number of results."""
    kind = line.split()[0]
    assert wrong(f"{line}\ninterval = 1\ntimeout = 1\nrise = 1\nfall = 1") == [
        f"{key}: not together with {kind}: the kernel tells of it at once" for key in ("interval", "timeout", "rise", "fall")
    ]


def test_keys_that_go_with_others(wrong):
    """A device is that of an address or a route, status and certificates are those of http."""
    assert wrong('ping = "192.0.2.1"\ndevice = "eth0"\nstatus = [200]\nverify-tls = true') == [
        "device: not together with ping: it goes with address and route",
        "status: not together with ping: it goes with http",
        "verify-tls: not together with ping: it goes with http",
    ]
    assert wrong('address = "192.0.2.1"\ndevice = "carp1"') == [f'device: "carp1" is not allowed: {targets.INTERFACE}']


def test_one_check(wrong):
    """A track checks exactly one thing."""
    kinds = "interface, address, route, process, pid-file, file, script, tcp, http, ping"
    assert wrong("demote = 1") == [f": it checks nothing: one of {kinds}"]
    assert wrong('file = "/a"\nping = "192.0.2.1"\ntcp = "a:1"') == [
        "ping: file is given already: one check in each track",
        "tcp: file is given already: one check in each track",
    ]


def test_names(refused, write):
    """A track has a name of 1..32 letters, digits and a few signs."""
    name = "Up-link_2.ISP-of-32-characters.x"
    (found,) = load_file(write(f'{GOOD}[track."{name}"]\nfile = "/a"\n')).tracks
    assert (len(name), found.check.name) == (32, name)
    allowed = "not the name of a track: a name of 1..32 letters, digits, '-', '_' and '.'"
    for bad in ("", "x" * 33, "a b", "a/b", "ä", "a\\n"):
        (line,) = refused(f'{GOOD}[track."{bad}"]\nfile = "/a"\n')
        assert line.startswith("carp.toml: track.")
        assert line.endswith(f": {allowed}")


def test_not_tables(refused):
    """A track is a table within the table track."""
    assert refused(f"track = 5\n{GOOD}") == ["carp.toml: track: 5 is not allowed: tables such as [track.uplink]"]
    assert refused(f'{GOOD}[track]\nfile = "/a"\nx = 1\n') == [
        "carp.toml: track.file: stands in [track] itself; put it below a line such as [track.uplink]",
        "carp.toml: track.x: 1 is not allowed: a table [track.NAME]",
    ]


def test_every_problem_at_once_in_order(refused):
    """The problems of tracks are among those of the file, in its order."""
    text = f'[track.b]\nfall = 0\nfile = "a"\nx = 1\n{GOOD}advskew = 255\n[track.a]\nping = "x"\ngroups = ["wan"]\n'
    assert [line.split(": ")[1] for line in refused(text)] == [
        "track.b.fall",
        "track.b.file",
        "track.b.x",
        "track.a.ping",
        "track.a.groups",
        "carp0.advskew",
    ]


def test_unknown_groups(refused):
    """A group that no carp interface is in would demote nothing; the groups that there are stand in the message."""
    more = '[carp7]\ncarpdev = "eth1"\nvhid = 7\npass = "x"\naddresses = ["192.0.2.7/24"]\ngroups = ["lan", "dmz-"]\n'

    def wrong(group):
        return refused(f'{GOOD}{more}[track.uplink]\nfile = "/a"\ngroups = ["{group}"]\n')

    for group in ("carp", "lan", "dmz-", "all", "carp0", "carp7"):
        assert wrong(group) == []
    there_are = "one of carp, lan, dmz-, all, or a carp interface"
    assert wrong("wan") == [f'carp.toml: track.uplink.groups: no carp interface is in "wan": {there_are}; did you mean lan?']
    assert wrong("carp1") == [
        f'carp.toml: track.uplink.groups: no carp interface is in "carp1": {there_are}; did you mean carp?'
    ]


def test_default_group_that_nobody_is_in(refused):
    """The group carp is no exception: where no carp interface is in it, a track has to name another."""
    text = GOOD + 'groups = ["lan"]\n[track.uplink]\nfile = "/a"\n'
    there_are = "one of lan, all, or a carp interface; did you mean carp0?"
    assert refused(text) == [f'carp.toml: track.uplink.groups: no carp interface is in "carp": {there_are}']


def test_unknown_groups_while_running():
    """A running daemon may lose a group and get it back, and a file may leave the interfaces to commands: both are warned."""
    track = {"file": "/a", "groups": ["lan", "carp", "all", "carp0"]}
    loaded = load_document({"carp0": CARP0, "track": {"x": track}}, RUNNING)
    assert loaded.warnings == ('track.x.groups: no carp interface is in "lan"',)
    assert loaded.tracks[0].groups == {"lan", "carp", "all", "carp0"}
    warnings = load_document({"track": {"x": {"file": "/a"}}}, Source(key_text, Path())).warnings
    assert warnings == (
        ": no carp interface: carp ifconfig can make one",
        'track.x.groups: no carp interface is in "carp"',
    )


@pytest.mark.parametrize("group", ["all", "carp0", "carp7"])
def test_own_groups(complaint, group):
    """What every carp interface is in by itself is not one of its own groups."""
    reason = "a group name of 1..15 letters, digits, '_', '-' and '.' that does not end in a digit"
    if group == "all":
        reason = "another name: every carp interface is in this group without being told"
    assert complaint(f'groups = ["{group}"]') == f'carp.toml: carp0.groups: "{group}" is not allowed: {reason}'


def test_document_with_tracks(program):
    """Tracks stay with the document: as text, in public, saved, and read again; whatever they are called."""
    tracks = {
        "pass": {"http": "http://a/", "status": [200], "verify-tls": False, "interval": 0.5, "groups": ["all"]},
        "a.b": {"script": [str(program()), 'a"b']},
        "uplink": {"interface": "eth1", "demote": 200},
    }
    document = {"global": {"log": 3}, "track": tracks, "carp0": CARP0, "carp1": {}}
    loaded = load_document({name: document[name] for name in ("carp1", "track", "carp0", "global")}, RUNNING)
    assert loaded.document == document
    assert list(loaded.document) == list(document)
    assert [track.check.name for track in loaded.tracks] == ["pass", "a.b", "uplink"]
    text = to_toml(loaded.document, with_keys=True)
    assert text.startswith('[global]\nlog = 3\n\n[track.pass]\nhttp = "http://a/"\nstatus = [200]\nverify-tls = false\n')
    assert '\n[track."a.b"]\nscript = [' in text
    assert tomllib.loads(text) == document
    assert load_document(tomllib.loads(text), RUNNING) == loaded
    shown = public(document)
    assert shown["track"] == tracks
    assert tomllib.loads(to_toml(document, with_keys=False)) == shown
    kept, left_out = complete(document)
    assert kept == {name: document[name] for name in ("global", "track", "carp0")}
    assert left_out == ["carp1 is left out: it has no vhid, no carpdev and no addresses"]


def test_no_tracks():
    """A table track without a track is the same as none."""
    assert load_document({"track": {}, "carp0": CARP0}, RUNNING).document == {"carp0": CARP0}


def test_a_track_does_not_hide_a_key_in_a_readable_file(refused):
    """A track called pass makes no secret of the file, and a real one still does."""
    table = '[carp0]\ncarpdev = "eth0"\nvhid = 1\naddresses = ["192.0.2.1/24"]\n[track.pass]\nfile = "/a"\n'
    assert refused(table, 0o644) == []
    assert len(refused(table.replace("vhid = 1", 'vhid = 1\npass = "x"'), 0o644)) == 1


def test_all_of_a_document_is_refused_with_a_bad_track():
    """Nothing of a document with a bad track is taken."""
    with pytest.raises(ConfigError, match=r"^track\.x: it checks nothing"):
        load_document({"track": {"x": {}}}, RUNNING)
