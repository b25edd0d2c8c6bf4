"""`python -m agentlightning`: the command, where it is not on the PATH."""

from agentlightning.cli.main import main

if __name__ == "__main__":
    main()
