"""Sweeps under random kills, on full disks and without memory: what is lost, doubled or wrong afterwards is counted."""
