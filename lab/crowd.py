"""As many virtual hosts on one parent as there are vhids, in one process."""

from .capture import Capture, is_advertisement
from .host import Carp, Host
from .stage import Stage
from .wait import until

COUNT = 255
_PATIENCE_S = 90.0
_BOW_OUT = 255


def shared(vhid: int) -> tuple[str, str]:
    """Return the addresses of a virtual host."""
    return f"198.51.100.{vhid}/16", f"2001:db8:5::{vhid:x}/64"


def crowd(stage: Stage, label: str, advskew: int) -> Host:
    """Configure a host with every vhid there is."""
    carps = [Carp(f"carp{vhid}", vhid, advskew=advskew, addresses=shared(vhid)) for vhid in range(1, COUNT + 1)]
    return stage.host(label, *carps, preempt=True)


def states(host: Host) -> list[str]:
    """Return the state of each virtual host."""
    status = host.try_status()
    return [node["state"] for interface in (status or {"interfaces": []})["interfaces"] for node in interface["nodes"]]


def wait_for_all(host: Host, state: str) -> int:
    """Wait until all are in a state; return the instant."""
    return until(lambda: states(host) == [state] * COUNT, _PATIENCE_S, f"{COUNT} times {state} on {host.label}", 0.05)


def bow_out_times(capture: Capture) -> dict[int, int]:
    """Return when each virtual host last bowed out, by vhid."""

    def farewell(frame: bytes) -> bool:
        header = frame[34 if frame[12:14] == b"\x08\x00" else 54 :]
        return is_advertisement(frame) and header[2] == header[5] == _BOW_OUT

    return {frame[35 if frame[12:14] == b"\x08\x00" else 55]: at for at, frame in capture.stamped(farewell)}
