"""Rules that a test states, in place of those of an operation."""


def says(pattern, *names, **options):
    """A rule that states `pattern` over these arguments and the result."""

    def mutant(call):
        call.relate(pattern, *(call[name] for name in names), call.out, **options)

    return mutant


def loose(call):
    """A rule that ties no axis to another."""
    values = [*call.tensors(), *call.outs]
    terms = [" ".join(f"v{k}d{dim}" for dim in range(len(value.shape))) for k, value in enumerate(values)]
    call.relate(", ".join(terms), *values)
