"""Telling a GateReport: one format, one file. Nothing is decided here."""
