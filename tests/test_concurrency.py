"""Several threads at once, and what none of them may see of another: dtypes, logs, warnings, random numbers, models."""

import copy
import gc
import logging
import multiprocessing
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from pairs import PLANTED, mlp, vectors
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import permgraph as pg
from permgraph.tracing.draws import Draws
from permgraph.tracing.exporting import export
from permgraph.tracing.quiet import quiet


def work(planted):
    first = planted.batches[0]
    args, kwargs = ((), first) if isinstance(first, dict) else ((first,), {})
    assert pg.verify(planted.a, args, kwargs, spec=pg.derive(planted.a, args, kwargs, outputs=planted.spec.outputs))
    found = pg.align(planted.a, planted.b, planted.batches, spec=planted.spec)
    return planted.recovered(found.permutations)


def refuse(planted):
    with pytest.raises(pg.CaptureError):
        pg.derive(planted.a, (torch.ones(2, 4),))


class Watch(threading.Thread):
    """Notes whatever it sees change while others work."""

    def __init__(self, config):
        super().__init__()
        self.seen, self.records, self.done, self.config = set(), [], threading.Event(), config
        self.state, self.stderr, self.logger = torch.get_rng_state(), sys.stderr, logging.getLogger("watched")

    def run(self):
        handler = logging.Handler()
        handler.emit = self.records.append
        self.logger.addHandler(handler)
        self.logger.propagate = False
        rounds = 0
        while not self.done.wait(0.001):
            rounds += 1
            self.logger.error("heard")
            self.seen |= {
                "dtype" * (torch.zeros(1).dtype != torch.float32),
                "stderr" * (sys.stderr is not self.stderr),
                "random numbers" * (not torch.equal(torch.get_rng_state(), self.state)),
                "use_cache" * (self.config.use_cache is not True),
                "logging" * (len(self.records) != rounds),
                "warnings" * (not self.warned()),
            }

    def warned(self):
        with pytest.raises(UserWarning, match="heard"):
            warnings.warn("heard", UserWarning, stacklevel=1)
        return True


def test_threads_derive_verify_and_align_at_once_and_disturb_no_other():
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=9, n_positions=8)).eval()
    assert model.config.use_cache
    pairs = [PLANTED[name]() for name in ("mlp", "gpt2")]
    alone = [work(planted) for planted in pairs]
    watch = Watch(model.config)
    watch.start()
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(work, pairs * 2))
        list(pool.map(refuse, pairs[:1] * 3))
        list(pool.map(lambda ids: pg.derive(model, (), {"input_ids": ids}), [torch.zeros(2, 4, dtype=torch.long)] * 3))
    watch.done.set()
    watch.join()
    assert watch.seen == {""}
    assert len(watch.records) > 10
    assert found == alone * 2


def test_only_the_thread_itself_is_quiet():
    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    logger = logging.getLogger("spoken")
    logger.addHandler(handler)

    def speak():
        logger.error("a record")
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            warnings.warn("a warning", UserWarning, stacklevel=1)
        return len(found)

    with ThreadPoolExecutor(1) as pool, quiet():
        logger.error("nobody hears this")
        warnings.warn("nor this", UserWarning, stacklevel=1)
        assert pool.submit(speak).result() == 1
        assert len(heard) == 1
    assert speak() == 1
    assert len(heard) == 2


def test_a_process_that_is_forked_while_a_model_is_traced_can_trace_too():
    class Slow(nn.Module):
        def forward(self, x):
            started.set()
            forked.wait(20)
            return x + 1

    started, forked = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        tracing = pool.submit(export, Slow().eval(), (torch.ones(2),), {})
        assert started.wait(20)
        threading.Timer(0.2, forked.set).start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # on a fork beside threads
            child = multiprocessing.get_context("fork").Process(target=pg.derive, args=(mlp(), (vectors()[0],)))
            child.start()
        child.join(60)
        tracing.result()
    assert child.exitcode == 0


ATEN = torch.ops.aten
X = torch.full((4, 6), 0.5)
DRAWN = {
    "dropout": lambda: ATEN.dropout.default(X, 0.5, True),
    "native_dropout": lambda: ATEN.native_dropout.default(X, 0.5, True)[0],
    "feature_dropout": lambda: ATEN.feature_dropout.default(X.expand(8, 4, 6), 0.5, True),
    "alpha_dropout": lambda: ATEN.alpha_dropout.default(X, 0.5, True),
    "attention": lambda: ATEN.scaled_dot_product_attention.default(X, X, torch.eye(4, 6), None, 0.5),
    "rand": lambda: ATEN.rand.default([5]),
    "randint": lambda: ATEN.randint.low(3, 1000, [5]),
    "randperm": lambda: ATEN.randperm.default(50),
    "randn_like": lambda: ATEN.randn_like.default(X),
    "bernoulli": lambda: ATEN.bernoulli.default(X),
    "uniform_": lambda: ATEN.uniform_.default(X.clone()),
    "multinomial": lambda: ATEN.multinomial.default(torch.ones(50), 5),
    "rrelu": lambda: ATEN.rrelu.default(-X, 0.1, 0.9, True),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_what_is_drawn_depends_on_the_seed_alone(draw):
    before, found = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        with torch.no_grad(), Draws(torch.device("cpu"), seed):
            found.append(draw())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize(("p", "value"), [(0.0, 0.5), (1.0, 0.0)])
def test_nothing_is_drawn_where_all_or_nothing_is_dropped(p, value):
    with torch.no_grad(), Draws(torch.device("cpu"), 0):
        assert (ATEN.native_dropout.default(X, p, True)[0] == value).all()


def test_a_model_that_cannot_be_copied_is_traced_itself_or_refused():
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=9, n_positions=8)).eval()
    model.lock = threading.Lock()
    ids = {"input_ids": torch.zeros(2, 4, dtype=torch.long)}
    with pytest.raises(pg.CaptureError, match=r"cannot be copied .*set its config\.use_cache to False"):
        pg.derive(model, (), ids)
    model.config.use_cache = False
    assert pg.derive(model, (), ids).groups
    model.lm_head.to("meta")
    with pytest.raises(pg.CaptureError, match=r"cannot be copied .*move it to one device"):
        pg.derive(model, (), ids)


def test_a_model_that_another_thread_traces_keeps_its_tensors():
    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x):
            started.set()
            seen.wait(20)
            return x * self.weight

    started, seen, model = threading.Event(), threading.Event(), Slow().eval()
    with ThreadPoolExecutor(1) as pool:
        tracing = pool.submit(pg.derive, model, (torch.ones(2),))
        assert started.wait(20)
        weight = model.state_dict()["weight"]
        seen.set()
        tracing.result()
    assert type(weight) is torch.Tensor
    assert torch.equal(weight, torch.ones(2))


class Made(nn.Module):
    """Tensors that torch makes in its default dtype, beside weights in another."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        share = torch.arange(1, 7) / torch.tensor(7)
        mixed = self.a(x) * share.sum() @ torch.eye(6) + torch.zeros(6)
        return self.b(mixed @ (torch.ones(6, 6) * (x > 0).sum().sqrt()))


def test_a_trace_leaves_the_collector_on():
    class Watching(nn.Linear):
        def forward(self, x):
            assert gc.isenabled()
            return super().forward(x)

    assert pg.derive(nn.Sequential(Watching(3, 4), nn.Linear(4, 2)).eval(), (torch.ones(2, 3),)).groups


def test_what_a_program_makes_is_computed_in_the_dtype_of_the_proof():
    assert pg.verify(copy.deepcopy(Made()).eval(), (torch.randn(3, 4),)).max_error < 1e-12
