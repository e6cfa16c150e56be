"""Modules of a user's own: what the tests of `prune` on Python files build."""

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.second, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.norm2(self.second(torch.relu(self.norm1(self.first(x))))))


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.depthwise, self.point = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 12, 1)
        self.blocks = nn.Sequential(Residual(12), Residual(12))
        self.head = nn.Linear(12 * 4 * 4, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = self.blocks(self.point(self.depthwise(x)))
        return self.head(F.adaptive_avg_pool2d(x, 4).flatten(1))


class Attention(nn.Module):
    """Fused or separate projections; ``cached``: the shape is taken from a number that nobody can find."""

    def __init__(self, width, heads, fused=True, cached=False):
        super().__init__()
        self.num_heads, self.scale = heads, (width // heads) ** -0.5
        self.secret = [width // heads if not cached else width]
        self.cached, self.fused = cached, fused
        sizes = [3 * width] if fused else [width] * 3
        self.projections = nn.ModuleList(nn.Linear(width, size) for size in sizes)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        B, T, _ = x.shape
        qkv = torch.cat([p(x) for p in self.projections], -1) if not self.fused else self.projections[0](x)
        if self.cached:
            assert qkv.shape[-1] == 3 * self.secret[0]
        q, k, v = qkv.reshape(B, T, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        a = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        return self.out((a @ v).transpose(1, 2).reshape(B, T, -1))


class Block(nn.Module):
    def __init__(self, width=16, heads=4, **more):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, **more)
        self.up, self.down = nn.Linear(width, 32), nn.Linear(32, width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Separate(nn.Module):
    def __init__(self, width=16, heads=4):
        super().__init__()
        self.num_heads, self.all_head_size = heads, width
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        B, T, _ = x.shape
        q, k, v = (f(x).view(B, T, self.num_heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        joined = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, self.all_head_size)
        return x + self.o(joined)


def seeded(make):
    def build():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = make()
            for name, value in made.named_buffers():
                if name.endswith("running_mean"):
                    value.normal_()
            return made

    return build


cnn = seeded(Cnn)
mlp = seeded(lambda: nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 24), nn.GELU(), nn.Linear(24, 3)))
encoder = seeded(lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2))
block = seeded(lambda: nn.Sequential(Block(), Block()))
secretive = seeded(lambda: Block(cached=True))
separate = seeded(lambda: nn.Sequential(Separate(), Separate()))
normed = seeded(lambda: nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 3)))
recurrent = seeded(lambda: nn.LSTM(8, 16, batch_first=True))


def zero_last():
    """After such an initialisation the first norm's block gives nothing: its weights hide every mistake."""
    made = cnn()
    for part in made.blocks:
        nn.init.zeros_(part.norm2.weight)
        nn.init.zeros_(part.norm2.bias)
    return made


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = dict(vocab_size=50, n_embd=16, n_layer=2, n_head=4, n_positions=32, bos_token_id=0, eos_token_id=0)
    return seeded(lambda: GPT2LMHeadModel(GPT2Config(**sizes)))()


def not_a_module():
    return 3


def failing():
    raise RuntimeError("no weights here")


def example():
    return torch.ones(2, 10)


def losses(module):
    generator = torch.Generator().manual_seed(1)
    for _ in range(6):
        x = torch.randn(4, 10, generator=generator)
        yield F.cross_entropy(module(x), (x.sum(1) > 0).long())


def no_losses(module):
    yield from ()
