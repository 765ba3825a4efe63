"""The command line: `permgraph COMMAND`. Only commands import PyTorch, so `--help` answers at once."""

GARBAGE_AFTER = 1_000_000
"""New objects after which Python looks for garbage among them."""


def main() -> None:
    """Run the command line that the process was started with."""
    import gc
    import io
    import os
    import sys
    import warnings

    # Threads that spin while they wait make everything several times slower as soon as the cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "--debug" not in sys.argv and not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries warn developers; what concerns a user is said by the commands

    # Libraries make 800,000 objects that stay: looking through them for garbage every 700 takes a tenth of a command,
    # and looking once takes a fifth of a second.
    # Tensors do not wait for it, since none is in a cycle: the peak of a job is the same.
    gc.set_threshold(GARBAGE_AFTER, 10, 100)
    # A stream that is closed is None, and its number would be that of the next file that is opened.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names and marks that the terminal's encoding lacks

    from permgraph.cli import stopping

    stopping.listen()
    try:
        from permgraph.cli.app import app

        app(prog_name="permgraph")
    except BaseException:
        if stopping.received():
            sys.exit(stopping.told())
        raise
    finally:
        gc.freeze()  # else Python takes a second to look through everything once more before it exits
