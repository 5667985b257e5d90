"""`python -m flaxbert` is the console script `flaxbert`."""

from flaxbert.cli import main

if __name__ == "__main__":
    main()
