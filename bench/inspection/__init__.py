"""One trace, or the traces of several ranks, looked at closely. Reads and computes; prints nothing. No torch."""
