"""`python -m roundsman`, the same as `roundsman`."""

from roundsman.cli.main import main

if __name__ == "__main__":
    main()
