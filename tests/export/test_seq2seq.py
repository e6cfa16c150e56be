"""Encoder-decoders in every dialect: reloaded in a fresh process, generating in transformers, in ONNX Runtime."""

import pytest
import torch

from archtool.export.model import export_model
from archtool.export.verify import record, verify_all
from archtool.ir.edit import Drop, Encode, Unshare
from archtool.ir.encodings import Affine
from archtool.model.generate import generate
from archtool.model.load import load
from archtool.transforms.quantize.rtn import candidates
from tests.export.models import edited, keep, made


def int8(checkpoint):
    return edited(checkpoint, *(Encode(t, Affine()) for t in candidates(checkpoint.architecture)))


def narrow(checkpoint):
    blocks = [b.name for b in checkpoint.architecture.blocks if b.stage]
    return edited(checkpoint, *(keep(f"{name}.ffn.hidden", range(0, 40, 2)) for name in blocks))


def ragged(checkpoint):
    """Uneven widths and heads on both sides, layers of the decoder dropped."""
    return edited(
        checkpoint, keep("e0.ffn.hidden", range(9)), keep("d0.cross.kv", (0, 2, 3)), keep("d1.cross.qk", (1, 2, 5)),
        keep("d0.attn.v", range(5)), Drop("d1", "attn"), Drop("d1", "ffn"),
    )  # fmt: skip


def unshared(checkpoint):
    return edited(checkpoint, Unshare("e1", "attn"), keep("e1.attn.kv", (0, 3)))


CASES = {
    **{f"same-{name}": (name, lambda c: c, "stock") for name in ("t5", "marian")},
    **{f"ffn-{name}": (name, narrow, "stock") for name in ("t5", "marian")},
    "depth-t5": ("t5", lambda c: edited(c, Drop("d1"), Drop("e1")), "stock"),
    "depth-marian": ("marian", lambda c: edited(c, Drop("e0")), "stock"),
    **{f"ragged-{name}": (name, ragged, "remote") for name in ("t5", "marian")},
    "unshared-t5": ("t5", unshared, "remote"),
    "heads-t5": ("t5", lambda c: edited(c, *(keep(f"e{i}.attn.kv", (1, 2)) for i in range(2))), "remote"),
    "width-marian": ("marian", lambda c: edited(c, keep("s0.width", range(0, 32, 3))), "remote"),
    "width-t5": ("t5", lambda c: edited(c, keep("s0.width", range(1, 32, 3))), "remote"),
    **{f"int8-{name}": (name, int8, "remote") for name in ("t5", "marian")},
    "padded-t5": ("t5", lambda c: edited(c, *(keep(f"e{i}.attn.kv", (1, 2)) for i in range(2))), "padded"),
    "padded-marian": ("marian", lambda c: edited(c, keep("d0.cross.kv", (1,)), Drop("e1", "ffn")), "padded"),
    "native-marian": ("marian", lambda c: int8(ragged(c)), "native"),
}
WITH_ONNX = ("ragged-t5", "width-marian")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Name → (checkpoint, export, run folder) of every case."""
    root, found = tmp_path_factory.mktemp("seq2seq"), {}
    sources = {name: load(made(name, root / name)) for name in ("t5", "marian")}
    for name, (source, change, dialect) in CASES.items():
        checkpoint = change(sources[source])
        asked = dialect if dialect in ("padded", "native") else "auto"
        exported = export_model(checkpoint, root / name / "model", asked, onnx=name in WITH_ONNX)
        record(checkpoint, exported, root / name)
        found[name] = (checkpoint, exported, root / name)
    return found


@pytest.fixture(scope="module")
def verified(runs):
    return verify_all([folder for _, _, folder in runs.values()])


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_reloaded_model_computes_the_same(name, runs, verified):
    _, exported, folder = runs[name]
    assert exported.dialect == CASES[name][2], exported.reasons
    assert [v.passed for v in verified[folder]] == [True] * (1 + (name in WITH_ONNX)), verified[folder]
    assert all("logits" in {row[0] for row in v.outputs} for v in verified[folder])


def reloaded(folder):
    """The exported model in transformers, in this process."""
    import transformers as tf

    return tf.AutoModelForSeq2SeqLM.from_pretrained(folder / "model", trust_remote_code=True).eval()


@pytest.mark.parametrize("name", ["same-t5", "ragged-t5", "ragged-marian", "width-marian", "int8-t5"])
def test_generate_of_transformers_gives_what_archtool_generates(name, runs):
    checkpoint, _, folder = runs[name]
    model, start = reloaded(folder), int(name.endswith("marian"))
    ids = torch.randint(3, 61, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    ours = generate(checkpoint.module(), torch.full((3, 1), start), 9, given=given)
    settings = dict(max_new_tokens=9, do_sample=False, eos_token_id=None, pad_token_id=1, decoder_start_token_id=start)
    assert torch.equal(model.generate(**given, num_beams=1, **settings), ours)
    assert torch.equal(model.generate(**given, num_beams=1, use_cache=False, **settings), ours)
    beams = model.generate(**given, num_beams=3, **settings)
    assert torch.equal(beams, model.generate(**given, num_beams=3, use_cache=False, **settings))


def test_the_encoder_runs_once_in_a_remote_model(runs):
    model = reloaded(runs["ragged-t5"][2])
    ids, begun = torch.arange(3, 10)[None], torch.tensor([[0, 5, 9, 2]])
    whole = model(input_ids=ids, decoder_input_ids=begun)
    memory = model.get_encoder()(input_ids=ids)
    assert torch.equal(memory.last_hidden_state, whole.encoder_last_hidden_state)
    first = model(encoder_outputs=memory, decoder_input_ids=begun[:, :3], use_cache=True)
    last = model(encoder_outputs=memory, decoder_input_ids=begun[:, 3:], past_key_values=first.past_key_values)
    assert (torch.cat((first.logits, last.logits), 1) - whole.logits).abs().max() <= 1e-5
    with pytest.raises(ValueError, match="labels"):
        model(input_ids=ids, decoder_input_ids=begun, labels=begun)


def test_both_lengths_are_free_in_onnx(runs):
    import onnxruntime

    checkpoint, _, folder = runs["width-marian"]
    session = onnxruntime.InferenceSession(folder / "model/model.onnx", providers=["CPUExecutionProvider"])
    for batch, length, steps in ((1, 1, 1), (3, 17, 5), (2, 4, 23)):
        ids = {"input_ids": (batch, length), "decoder_input_ids": (batch, steps)}
        feed = {name: torch.randint(3, 61, shape) for name, shape in ids.items()}
        feed["attention_mask"] = torch.ones(batch, length, dtype=torch.int64)
        feed["attention_mask"][0, length // 2 + 1 :] = 0
        expected = checkpoint.module()(**feed)["logits"]
        (got,) = session.run(["logits"], {name: value.numpy() for name, value in feed.items()})
        assert (torch.from_numpy(got) - expected).abs().max() <= 1e-4
