"""`python -m waemitter` is the same as the console script."""

from waemitter.cli.main import main

if __name__ == "__main__":
    main()
