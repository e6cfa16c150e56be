"""Window attention against its definition, pair of cells by pair of cells."""

from types import SimpleNamespace

import pytest
import torch

from archtool.ir.operator import Flow
from archtool.operators.attention import Attention
from archtool.operators.positions import Positions
from archtool.operators.samples import alone, branch, in_text, on_image
from archtool.operators.window_attention import WindowAttention
from tests.operators.checks import LENGTH, check_recurrent, made


def _seen(grid, window, shift):
    """By definition: a cell's window in the rolled padded grid, and the part of the image that it comes from."""
    window = min(window, *grid)
    shift = shift if window < min(grid) else 0
    rows, columns = (-(-n // window) * window for n in grid)
    cells = [(r, c) for r in range(rows) for c in range(columns)]
    place = {(r, c): ((r - shift) % rows, (c - shift) % columns) for r, c in cells}
    home = {cell: (place[cell][0] // window, place[cell][1] // window) for cell in cells}
    wraps = {cell: tuple(at < shift for at in cell) for cell in cells}
    return cells, [[home[a] == home[b] and wraps[a] == wraps[b] for b in cells] for a in cells]


def _reference(m, op, x_BTC, grid):
    cells, seen = _seen(grid, op.window, op.shift)
    whole = torch.zeros(len(x_BTC), len(cells), x_BTC.shape[2])
    inside = [i for i, (r, c) in enumerate(cells) if r < grid[0] and c < grid[1]]
    whole[:, inside] = x_BTC
    heads, w = m.heads.shape[0], op.window
    q, k, v = (y(whole).unflatten(-1, (heads, -1)).transpose(1, 2) for y in (m.q, m.k, m.v))
    scores = q @ k.transpose(2, 3) * op.scale
    for i, (r, c) in enumerate(cells):
        for j, (s, d) in enumerate(cells):
            if seen[i][j]:
                scores[:, :, i, j] += m.table[(r - s + w - 1) * (2 * w - 1) + c - d + w - 1]
            else:
                scores[:, :, i, j] = -torch.inf
    return m.o((torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2))[:, inside]


@pytest.mark.parametrize(
    ("grid", "window", "shift"),
    [((6, 6), 3, 0), ((6, 9), 3, 1), ((5, 7), 3, 1), ((4, 4), 4, 2), ((3, 7), 5, 2), ((4, 6), 2, 1)],
)
def test_windows_equal_their_definition(grid, window, shift):
    op = WindowAttention(window=window, shift=shift, scale=0.4)
    m = made(on_image([branch(op, kv=2, qk=3, v=4)])).module().get_submodule("b0.op")
    tokens = grid[0] * grid[1]
    x = torch.randn(2, tokens, 16, generator=torch.Generator().manual_seed(0))
    ctx = SimpleNamespace(flow=Flow(tokens, grid), once=lambda key, compute: compute())
    with torch.no_grad():
        found, expected = op.forward(m, x, ctx), _reference(m, op, x, grid)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_positions_go_on_in_generation():
    attention = branch(Attention(scale=0.5, causal=True), kv=2, group=1, qk=4, v=4)
    check_recurrent(in_text([alone(Positions(), positions=LENGTH)], [attention]))
