"""`python -m bridge` and the command `tocsin`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from bridge.cli import tocsin  # noqa: PLC0415 - importing this room must stay free

    tocsin(prog_name="tocsin")


if __name__ == "__main__":
    main()
