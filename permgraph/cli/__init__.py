"""The command line: `permgraph COMMAND`; PyTorch is imported inside the commands, so that `--help` answers at once."""


def main() -> None:
    """Run the command line that the process was started with."""
    import os
    import signal
    import sys
    import warnings

    # Threads that spin while they wait make everything several times slower as soon as the cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "--debug" not in sys.argv and not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries warn developers; what concerns a user is said by the commands

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that what is half-written goes

    from permgraph.cli.app import app

    app(prog_name="permgraph")
