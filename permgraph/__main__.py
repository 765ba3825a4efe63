"""`python -m permgraph COMMAND`: the command line, also for `torchrun -m permgraph`."""

from permgraph.cli import main

if __name__ == "__main__":
    main()
