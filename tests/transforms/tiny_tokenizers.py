"""Tokenizers trained in milliseconds, and small models beside them in a folder."""

import json
import struct
from pathlib import Path

from archtool.export.model import export_model
from archtool.model.preset import built

TEXTS = (
    "the cat sat on the mat", "a dog and the cat", "cats and dogs ran along", "hello world, the end of it",
    "another sentence with other words", "the weather is nice today", "ünïcode and naïve cafés",
)  # fmt: skip
SIZES = {
    "bert": dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                 max_position_embeddings=64),
    "gpt2": dict(n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0),
    "t5": dict(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, pad_token_id=0, eos_token_id=1,
               decoder_start_token_id=0),
    "llama": dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                  num_key_value_heads=1),
    "roberta": dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
                    max_position_embeddings=66, pad_token_id=1),
}  # fmt: skip


def word_piece():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(TEXTS * 3, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    return made, {"tokenizer_class": "BertTokenizer", **{f"{n}_token": f"[{n.upper()}]" for n in names}}


def byte_bpe(special=("<|endoftext|>",), cls="GPT2Tokenizer"):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=list(special), initial_alphabet=alphabet)
    made.train_from_iterator(TEXTS * 3, trainer)
    end = special[0]
    return made, {"tokenizer_class": cls, "eos_token": end, "bos_token": end, "unk_token": end}


def roberta_bpe():
    made, _ = byte_bpe(("<s>", "<pad>", "</s>", "<unk>", "<mask>"))
    from tokenizers import processors

    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    return made, {"tokenizer_class": "RobertaTokenizer", **{f"{k}_token": v for k, v in names.items()}}


def unigram():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    made.train_from_iterator(TEXTS * 3, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    names = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
    return made, {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, **{f"{k}_token": v for k, v in names.items()}}


def llama_bpe():
    """Byte pairs over characters with byte fallback, as Llama 2 has them."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made.train_from_iterator(TEXTS * 3, trainers.BpeTrainer(vocab_size=400, special_tokens=special))
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    state = json.loads(made.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["id"] < 3]
    return Tokenizer.from_str(json.dumps(state)), {
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>",
    }  # fmt: skip


KINDS = {
    "word_piece": (word_piece, "bert"),
    "byte_bpe": (byte_bpe, "gpt2"),
    "roberta": (roberta_bpe, "roberta"),
    "qwen": (lambda: byte_bpe(cls="Qwen2Tokenizer"), "llama"),
    "llama_bpe": (llama_bpe, "llama"),
    "unigram": (unigram, "t5"),
}


def saved(folder: Path, kind: str, rows_more: int = 0, **config) -> Path:
    """A model folder with a tokenizer of some kind; ``rows_more`` rows of the model have no token."""
    make, family = KINDS[kind]
    tokenizer, settings = make()
    words = tokenizer.get_vocab_size() + rows_more
    export_model(built(family, {**SIZES[family], "vocab_size": words, **config}, seed=1), folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def scored_file(path: Path) -> Path:
    """A scored-BPE file with every byte, the characters of `TEXTS` and some words."""
    words = ["th", "the", " the", " c", "at", " cat", "an", "and", " and", "do", "dog", " dog", "he", "hello"]
    chars = sorted(set("".join(TEXTS)) | {" "})
    pieces = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256)), *words, *chars]
    rows = [struct.pack("<fi", -float(i), len(p.encode())) + p.encode() for i, p in enumerate(pieces)]
    path.write_bytes(struct.pack("<i", 16) + b"".join(rows))
    return path
