"""Stored baselines: runs of one machine kept as small reviewable files, and a new run judged against them."""
