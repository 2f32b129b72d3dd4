"""How we measure, decide and tell: cases, harness, sweeps, metrics, reports and the command line."""
