"""`python -m reprocnn` is `reprocnn`."""

from reprocnn.cli import main

if __name__ == "__main__":
    main()
