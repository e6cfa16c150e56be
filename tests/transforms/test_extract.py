"""Extraction as maths: the grid of submodels, paths without measurement, and searches against brute force."""

from itertools import pairwise, product

import numpy as np
import pytest

from archtool.budget.language import Budget, Limit, parse_budget
from archtool.errors import BudgetError, InputError, UsageError
from archtool.ir.edit import edited
from archtool.ir.nesting import Nesting, Submodel, uniform
from archtool.model.apply import apply
from archtool.model.costs import costs
from archtool.transforms.extract.front import pareto
from archtool.transforms.extract.grid import Grid, Site, grid_of, label
from archtool.transforms.extract.path import largest, rising_path, uniform_path
from archtool.transforms.extract.pricing import Pricing
from archtool.transforms.extract.search import baselines, neighbours, search, solved
from archtool.transforms.extract.surrogate import scores_of
from archtool.transforms.nesting import nesting_of
from tests.model.tiny import tiny

LEVELS = (0.25, 0.5, 0.75, 1.0)


def nested(family="vit", kinds=("ffn", "heads", "depth"), levels=LEVELS):
    arch = tiny(family).architecture
    return arch, grid_of(nesting_of(arch, kinds, levels), arch)


def plain_grid(blocks=5, levels=4, depth=()):
    axes = [f"b{i}.ffn.hidden" for i in range(blocks)]
    sizes = tuple(range(1, levels + 1))
    return Grid(Nesting(tuple((a, sizes) for a in axes), depth), tuple(Site((a,), sizes) for a in axes))


def priced(grid, weights=None):
    """Costs by site: every level adds its weight, a skipped block's sites add nothing."""
    weights = weights or {"parameters": [1.0] * len(grid.sites)}

    def price(picks):
        live = grid.live(picks[-1])
        return {m: 10.0 + sum(w[i] * (1 + picks[i]) for i in live) for m, w in weights.items()}

    return Pricing(grid, price, tuple(weights))


def random_losses(grid, seed, interaction=0.0):
    """Losses that fall with every level; ``interaction`` makes them rise faster than the sum."""
    rng = np.random.default_rng(seed)
    fall = [np.append(np.sort(rng.exponential(1.0, len(s.sizes) - 1))[::-1], 0.0) for s in grid.sites]
    gone = np.cumsum(rng.exponential(2.0, len(grid.depth) + 1))

    def loss(picks):
        live = grid.live(picks[-1])
        parts = [float(fall[i][picks[i]]) for i in live] + ([float(gone[picks[-1]])] if picks[-1] else [])
        pairs = sum(a * b * (1 + 0.3 * ((i + j) % 3)) for i, a in enumerate(parts) for j, b in enumerate(parts[:i]))
        return 1.0 + sum(parts) + interaction * pairs

    return loss


@pytest.mark.parametrize("family", ["vit", "bert", "llama"])
def test_members_are_different_models_and_all_there_are(family):
    arch, grid = nested(family, ("ffn", "depth"), (0.3, 1.0))
    members = list(grid.members())
    assert len(members) == len(grid) == len(set(members))
    assert len(members) == sum(2 ** len(grid.live(k)) for k in range(len(grid.depth) + 1))
    plan = tiny(family).plan
    made = {str(edited(arch, plan, grid.submodel(p).edit(arch, "t"))[0]) for p in members}
    assert len(made) == len(members)
    for picks in members:
        assert grid.picks(grid.submodel(picks), arch) == grid.canonical(picks) == picks
    assert grid.submodel(grid.full) == uniform(grid.nesting, grid.nesting.granularities - 1)
    odd = (*grid.full[:-1], 1)
    assert sum(1 for _ in grid.one_change()) == len({*grid.one_change()}) and grid.canonical(odd) in grid.one_change()
    with pytest.raises(InputError, match="cannot be skipped"):
        grid.picks(Submodel(grid.submodel(grid.full).counts, grid.depth[1:2]), arch)


def test_axes_that_share_a_tensor_are_one_site():
    arch = tiny("t5").architecture
    nesting = nesting_of(arch, ("heads",), (0.5, 1.0))
    grid = grid_of(nesting, arch)
    assert len(grid.sites) < len(nesting.levels) and sum(len(s.axes) for s in grid.sites) == len(nesting.levels)
    for picks in grid.members():
        grid.picks(grid.submodel(picks), arch)


def test_fixed_axes_stay_whole():
    arch, _ = nested()
    nesting = nesting_of(arch, ("ffn", "heads"), LEVELS)
    grid = grid_of(nesting, arch, [a for a in nesting.sizes if a.endswith(".kv")])
    assert len(grid) == 4**3
    assert all(dict(grid.submodel(p).counts)["b0.attn.kv"] == 4 for p in grid.members())


@pytest.mark.parametrize("kinds", [("ffn",), ("ffn", "heads"), ("heads", "width")])
def test_widths_of_the_heuristic_never_fall_and_change_by_one_level(kinds):
    arch, grid = nested("vit", kinds)
    path = rising_path(grid)
    assert [p for p in path if p in uniform_path(grid)] == uniform_path(grid)
    cost = [Pricing(grid, lambda p: costs(apply(tiny("vit"), grid.submodel(p).edit(arch, "t"))), ())(p) for p in path]
    assert all(a["parameters"] < b["parameters"] for a, b in pairwise(cost))
    for picks in path:
        for kind in ("hidden", "kv"):
            levels = [n for n, s in zip(picks, grid.sites, strict=False) if s.axes[0].endswith(f".{kind}")]
            assert levels == sorted(levels) and max(levels, default=0) - min(levels, default=0) <= 1


def test_baselines_are_the_largest_of_their_paths():
    grid = plain_grid()
    price, budget = priced(grid), parse_budget("params=22")
    found = baselines(grid, budget, price)
    assert found == {"uniform": (1, 1, 1, 1, 1, 0), "matformer": (1, 1, 1, 2, 2, 0)}
    assert largest(uniform_path(grid), parse_budget("params=1"), price) is None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("depth", [(), ("b3", "b1")])
def test_the_solver_is_exact_where_losses_and_costs_add(seed, depth):
    grid = plain_grid(4, 3, depth)
    rng = np.random.default_rng(seed)
    weights = {m: rng.uniform(0.5, 2, 4).tolist() for m in ("parameters", "macs")}
    price, base = priced(grid, weights), random_losses(grid, seed)
    members = list(grid.members())
    if depth:  # skipping k blocks adds its own score to what the other sites add: then the scores say everything
        alone = {picks: base(picks) for picks in grid.one_change()}
        scores = scores_of(grid, alone)
        loss = scores.predicted
    else:
        loss = base
    scores = scores_of(grid, {picks: loss(picks) for picks in grid.one_change()})
    for share in (0.3, 0.5, 0.7, 0.9):
        limits = {m: 10 + share * 3 * sum(w) for m, w in weights.items()}
        budget = Budget((Limit("params", limits["parameters"]), Limit("macs", limits["macs"])))
        fits = [p for p in members if not budget.check(price(p))]
        if fits:
            picks = solved(grid, scores, budget, price)
            assert not budget.check(price(picks)) and loss(picks) == pytest.approx(min(map(loss, fits)), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_few_measurements_find_the_optimum_where_losses_interact(seed):
    """1,024 submodels, 24 budgets, 51 measurements: the goal of the benchmark on a landscape that is known."""
    grid = plain_grid()
    price, loss = priced(grid), random_losses(grid, seed, interaction=0.15)
    budgets = [Budget((Limit("params", value),)) for value in np.linspace(15.5, 29.5, 24)]
    asked = []

    def measure(picks):
        asked.append(picks)
        return loss(picks)

    found = search(grid, budgets, price, measure, "solver", 51)
    assert len(asked) == len(set(asked)) == len(found.losses) <= 51
    best = {b: min(loss(p) for p in grid.members() if not b.check(price(p))) for b in budgets}
    span = max(map(loss, grid.members())) - loss(grid.full)
    regret = {b: (loss(p) - best[b]) / span for b, p in zip(budgets, found.best, strict=True)}
    assert all(not b.check(price(p)) for b, p in zip(budgets, found.best, strict=True))
    assert sum(r < 1e-12 for r in regret.values()) >= 18 and np.mean(list(regret.values())) <= 0.005
    others = [(loss(baselines(grid, b, price)["matformer"]) - best[b]) / span for b in budgets]
    assert np.mean(others) > 10 * np.mean(list(regret.values()))


def test_brute_force_measures_all_and_is_optimal():
    grid = plain_grid(3, 3)
    price, loss, budget = priced(grid), random_losses(grid, 0, 0.5), parse_budget("params=16")
    found = search(grid, [budget], price, loss, "brute")
    assert len(found.losses) == 27 and found.scores is None
    assert loss(found.best[0]) == min(loss(p) for p in grid.members() if not budget.check(price(p)))
    assert len(search(grid, [budget], price, loss).losses) == 27  # few enough: auto measures all
    larger = plain_grid()
    few = search(larger, [parse_budget("params=20")], priced(larger), random_losses(larger, 0))
    assert len(few.losses) <= 48


def test_a_grid_beyond_brute_force_is_searched_near_what_is_good():
    grid = plain_grid(8, 4, ("b2", "b5"))
    assert len(grid) > 4096
    price, loss, budget = priced(grid), random_losses(grid, 1, 0.05), parse_budget("params=25")
    found = search(grid, [budget], price, loss, evaluations=60)
    rng = np.random.default_rng(0)
    members = [grid.canonical((*rng.integers(0, 4, 8).tolist(), int(rng.integers(0, 3)))) for _ in range(2000)]
    assert loss(found.best[0]) <= min(loss(p) for p in members if not budget.check(price(p)))
    with pytest.raises(UsageError, match="86016 submodels"):
        search(grid, [budget], price, loss, "brute")


def test_what_is_taken_was_measured_and_is_the_best_of_it():
    """Scores that mislead: the additive choice is bad, and is not taken."""
    grid = plain_grid(4, 3)
    price, budget = priced(grid), parse_budget("params=18")
    trap = solved(grid, scores_of(grid, {p: random_losses(grid, 5)(p) for p in grid.one_change()}), budget, price)

    def loss(picks):
        return random_losses(grid, 5)(picks) + (100.0 if picks == trap else 0.0)

    found = search(grid, [budget], price, loss, "solver", 20)
    assert trap in found.additive and found.best[0] != trap
    fits = [p for p in found.losses if not budget.check(price(p))]
    assert found.losses[found.best[0]] == min(found.losses[p] for p in fits)


def test_impossible_budgets_and_too_few_measurements_are_refused():
    grid = plain_grid()
    with pytest.raises(BudgetError) as caught:
        search(grid, [parse_budget("params=14")], priced(grid), random_losses(grid, 0))
    assert "The nearest feasible: params=15" in caught.value.hint and caught.value.exit_code == 6
    with pytest.raises(UsageError, match="the scores of this family take 16"):
        search(grid, [parse_budget("params=20")], priced(grid), random_losses(grid, 0), "solver", 16)


def test_a_cost_that_does_not_add_is_never_exceeded():
    grid = plain_grid(4, 4)

    def price(picks):
        return {"parameters": float(np.prod([1 + n for n in picks[:-1]]))}

    loss = random_losses(grid, 2)
    for limit in (4, 20, 60, 200):
        budget = Budget((Limit("params", limit),))
        found = search(grid, [budget], Pricing(grid, price, ("parameters",)), loss, "solver", 40)
        assert price(found.best[0])["parameters"] <= limit


def test_neighbours_are_members_and_reach_everything():
    grid = plain_grid(2, 3, ("b1",))
    members, seen, todo = set(grid.members()), set(), [grid.full]
    while todo:
        picks = todo.pop()
        seen.add(picks)
        todo += [n for n in neighbours(grid, picks) if n not in seen and n not in todo]
    assert seen == members


def test_the_front_has_what_nothing_beats():
    losses = {(i, 0): v for i, v in enumerate([5.0, 4.0, 4.0, 3.0, 3.5])}
    cost = {(i, 0): c for i, c in enumerate([1.0, 2.0, 2.5, 4.0, 5.0])}
    assert pareto(losses, cost) == [(0, 0), (1, 0), (3, 0)]
    assert label((2, 0, 1, 0)) == "2.0.1" and label((2, 0, 1, 2)) == "2.0.1-2"


def test_costs_of_real_models_add_over_blocks():
    checkpoint = tiny("llama")
    arch, grid = nested("llama", ("ffn", "heads", "depth"))
    price = Pricing(grid, lambda p: costs(apply(checkpoint, grid.submodel(p).edit(arch, "t"))), ("parameters", "macs"))
    rng = np.random.default_rng(0)
    picks = [
        grid.canonical(tuple(int(rng.integers(0, n + 1)) for n in (*grid.full[:-1], len(grid.depth)))) for _ in range(6)
    ]
    table = np.array(picks)
    for metric, estimates in price.estimate(table).items():
        skipped = table[:, -1] == 0
        exact = np.array([price(p)[metric] for p in picks])
        assert np.array_equal(estimates[skipped], exact[skipped])
    again = price.estimate(table)
    assert all(np.array_equal(again[m], [price(p)[m] for p in picks]) for m in again)
    assert len(list(product(*(range(len(s.sizes)) for s in grid.sites)))) <= len(grid)
