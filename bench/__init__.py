"""Measurements of speed under load, printed as figures: what the documents promise, checked by hand."""
