"""How long a peer waits before it takes over: the time for which a successful advertisement keeps the fence open."""

from dataclasses import dataclass

from .interval import master_down_ns
from .packet import Advertisement
from .parameters import InterfaceParameters
from .values import NANOSECONDS_PER_MILLISECOND, NEVER

_LEAST_MARGIN_NS = NANOSECONDS_PER_MILLISECOND
_MARGIN_DIVISOR = 64


@dataclass(slots=True)
class PeerPatience:
    """How long the most impatient peer of a virtual host waits for a silent MASTER.

    That is a peer with the same advbase and advskew 0, or a faster one that was heard or was configured. With advbase 0
    nothing is known of a peer until it is heard, and it is taken for as patient as this host.
    """

    _fastest_heard_ns: int = NEVER
    _usual_ns: int = 0
    _configured_ns: int | None = None
    holds_ns: int = 0
    """How long after an advertisement no peer takes over, less a margin for drifting clocks and frames on their way."""

    def change(self, parameters: InterfaceParameters, advskew: int) -> None:
        """Follow the parameters of a virtual host of this advskew."""
        least_skew = 0 if parameters.advbase else advskew
        self._usual_ns = master_down_ns(parameters.advbase, least_skew, triples_skew=False)
        self._configured_ns = parameters.peer_master_down_ns
        self._settle()

    def learn(self, heard: Advertisement, advertisement_ns: int) -> None:
        """Remember a faster peer than this host, which advertises every `advertisement_ns`.

        With one that is hardly more patient than that, no fence could stay open.
        """
        patience_ns = master_down_ns(heard.advbase, heard.advskew, triples_skew=False)
        if 2 * patience_ns >= 3 * advertisement_ns:
            self._fastest_heard_ns = min(self._fastest_heard_ns, patience_ns)
            self._settle()

    def _settle(self) -> None:
        patience_ns = self._configured_ns
        if patience_ns is None:
            patience_ns = min(self._usual_ns, self._fastest_heard_ns)
        self.holds_ns = patience_ns - max(_LEAST_MARGIN_NS, patience_ns // _MARGIN_DIVISOR)
