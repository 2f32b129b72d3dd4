"""`python -m bench` is `dlrm-bench`."""

from bench.cli import main

if __name__ == "__main__":
    main()
