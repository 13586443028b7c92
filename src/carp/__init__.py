"""CARP, the Common Address Redundancy Protocol of the BSDs, for Linux."""
