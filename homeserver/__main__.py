"""`python -m homeserver` is `atrium`."""

from homeserver.cli import main

if __name__ == "__main__":
    main()
