"""Nothing here is a test of ours: repositories of users, and what tests read."""

collect_ignore_glob = ["*"]
