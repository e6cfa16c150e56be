"""Hand-written modules that obey the model call contract, importable from a fresh process."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, ffn), nn.Linear(ffn, width)

    def attend(self, x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        batch, length, width = x_BTD.shape
        qkv = self.qkv(self.norm1(x_BTD)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mask = None if mask_BT is None else mask_BT[:, None, None, :].to(torch.bool)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x_BTD + self.out(y.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        x_BTD = self.attend(x_BTD, mask_BT)
        return x_BTD + self.down(functional.gelu(self.up(self.norm2(x_BTD))))


class TextModel(nn.Module):
    def __init__(self, blocks: int = 1, width: int = 16, heads: int = 2, ffn: int = 32, vocab: int = 50) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, width), nn.Embedding(64, width)
        self.blocks = nn.ModuleList(Block(width, heads, ffn) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x_BTD = self.tokens(input_ids) + self.positions(positions)
        for block in self.blocks:
            x_BTD = block(x_BTD, attention_mask)
        hidden_BTD = self.norm(x_BTD)
        weight_BT1 = attention_mask[..., None].to(hidden_BTD.dtype)
        return {"hidden": hidden_BTD, "pooled": (hidden_BTD * weight_BT1).sum(1) / weight_BT1.sum(1)}


class ImageModel(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.block, self.head = Block(width, 2, 32), nn.Linear(width, 5)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        x_BTD = self.stem(pixel_values).flatten(2).transpose(1, 2)
        return {"logits": self.head(self.block(x_BTD).mean(1))}


def make_text_inputs(batch: int, length: int, vocab: int = 50, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(vocab, (batch, length), generator=generator)
    mask_BT = torch.ones(batch, length, dtype=torch.int64)
    if length > 2:
        mask_BT[0, -2:] = 0
    return {"input_ids": ids_BT, "attention_mask": mask_BT}


def make_pixel_inputs(batch: int, seed: int = 0) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(seed))}
