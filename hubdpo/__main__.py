"""`python -m hubdpo`: the same as the command `hubdpo`."""

from hubdpo.cli.app import main

if __name__ == "__main__":
    main()
