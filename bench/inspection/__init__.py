"""One trace, or the traces of several ranks, closely: what it says, as data and as a page."""
