"""Name tables: any layout reads back to the same model, mistakes have a place, and a real model tells its story."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from archtool import builtins
from archtool import registry as plugins
from archtool.checkpoint.store import TensorStore, open_store
from archtool.config.name_table import load_with_names
from archtool.errors import ErrorList, InputError, RecipeError
from archtool.families import registry
from archtool.families.llama import Llama
from archtool.families.names import linear
from archtool.model.build import build
from archtool.model.checkpoint import Source, of_module
from archtool.model.lazy import load as held
from archtool.model.load import load
from archtool.model.save import save

ROOT = Path(__file__).resolve().parents[2]
STORIES = ROOT / "recipes" / "names" / "stories260k.yaml"
LAYERS, HEADS, KV, HEAD = 2, 2, 1, 4
CONFIG = {
    "model_type": "llama", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "num_key_value_heads": KV, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
    "hidden_act": "silu", "tie_word_embeddings": True,
}  # fmt: skip
L = "model.layers.{i}."
MATRICES = {
    "q": L + "self_attn.q_proj.weight", "k": L + "self_attn.k_proj.weight", "v": L + "self_attn.v_proj.weight",
    "o": L + "self_attn.o_proj.weight", "gate": L + "mlp.gate_proj.weight", "up": L + "mlp.up_proj.weight",
    "down": L + "mlp.down_proj.weight",
}  # fmt: skip
NORMS = {"an": L + "input_layernorm.weight", "fn": L + "post_attention_layernorm.weight"}
ENDS = {"tok": "model.embed_tokens.weight", "nf": "model.norm.weight"}
PLAIN = ENDS | {f"{key}.{{i}}": name for key, name in (MATRICES | NORMS).items()}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shared(*parts):
    path = Path(os.environ.get("ARCHTOOL_SHARED", ROOT.parent / "shared")).joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"{path} is not here (set ARCHTOOL_SHARED)")
    return path


def parent(config, folder, family="llama"):
    """A random model, saved under the family's names; its file's tensors."""
    folder.mkdir(exist_ok=True)
    model = build(registry.family_named(family).read(config, {}), seed=1, std=0.3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.1)
    checkpoint = of_module(model, Source(config=CONFIG))
    save(checkpoint, folder, native=False)
    return checkpoint, load_file(folder / "model.safetensors")


def interleaved(rows, pairs):
    """Rows of heads as (pairs, 2), written out row by row."""
    order = []
    for head in range(len(rows) // HEAD):
        order += [head * HEAD + s * pairs + p for p in range(pairs) for s in range(2)]
        order += range(head * HEAD + 2 * pairs, (head + 1) * HEAD)
    return rows[order]


def write(folder, tensors, table, **others):
    """The weights and the table as files."""
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "weights.safetensors")
    table = {"family": "llama", "config": CONFIG, "tensors": table} | others
    (folder / "names.yaml").write_text(json.dumps(table, indent=1))
    return folder / "weights.safetensors", folder / "names.yaml"


def plain(tensors):
    """A file with names of its own and one tensor each, as ``PLAIN`` maps it."""
    back = {ENDS["tok"]: "tok", ENDS["nf"]: "nf"}
    for key, name in (MATRICES | NORMS).items():
        back |= {name.format(i=i): f"{key}.{i}" for i in range(LAYERS)}
    return {back[name]: tensor for name, tensor in tensors.items()}


def same(first, second):
    assert dict(first.weights).keys() == dict(second.weights).keys()
    for name, tensor in first.weights.items():
        assert torch.equal(held(tensor), held(second.weights[name])), name
    ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
    assert torch.equal(first.module()(input_ids=ids)["logits"], second.module()(input_ids=ids)["logits"])


@st.composite
def layouts(draw):
    """Groups of matrices that lie in one tensor, with what is done to each group."""
    keys = draw(st.permutations(["q", "k", "v", "gate", "up"]))
    cuts = sorted(draw(st.sets(st.integers(1, 4), max_size=3)))
    groups = [keys[a:b] for a, b in zip([0, *cuts], [*cuts, 5], strict=True)] + [["o"], ["down"]]
    flags = st.fixed_dictionaries({name: st.booleans() for name in ("across", "transpose", "rotary", "lead")})
    return [(group, draw(flags)) for group in groups], draw(st.booleans())


def laid_out(tensors, group, flags, pairs):
    """The file tensors of a group and the table's row, joined here independently of the code under test."""

    def layer(i):
        parts = [tensors[MATRICES[key].format(i=i)] for key in group]
        if flags["rotary"]:
            parts = [interleaved(part, pairs) if key in "qk" else part for key, part in zip(group, parts, strict=True)]
        whole = torch.cat(parts)
        return whole.T if flags["transpose"] else whole

    row = {"fuse": [MATRICES[key] for key in group]} if len(group) > 1 else {"tensor": MATRICES[group[0]]}
    options = {"transpose": True} if flags["transpose"] else {}
    options |= {"rotary": "interleaved"} if flags["rotary"] and set(group) & {"q", "k"} else {}
    name = "_".join(group)
    if flags["across"]:
        made = {name: torch.stack([layer(i) for i in range(LAYERS)])}
        row = {"stack": row, **options}
    else:
        made = {f"{name}.{i}": layer(i) for i in range(LAYERS)}
        row, name = row | options, f"{name}.{{i}}"
    if flags["lead"]:
        made = {key: tensor[None] for key, tensor in made.items()}
        row |= {"lead": 1}
    return made, {name: row}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layouts())
def test_any_layout_reads_back_the_same_model(tmp_path, drawn):
    groups, stacked_norms = drawn
    original, tensors = parent(CONFIG, tmp_path / "parent")
    made = {"tok": tensors[ENDS["tok"]], "nf": tensors[ENDS["nf"]]}
    table = dict(ENDS)
    for key, name in NORMS.items():
        layers = [tensors[name.format(i=i)] for i in range(LAYERS)]
        made |= {key: torch.stack(layers)} if stacked_norms else {f"{key}.{i}": t for i, t in enumerate(layers)}
        table |= {key: {"stack": name}} if stacked_norms else {f"{key}.{{i}}": name}
    for group, flags in groups:
        more, row = laid_out(tensors, group, flags, HEAD // 2)
        made, table = made | more, table | row
    found = load_with_names(*write(tmp_path, made, table, config=CONFIG))
    same(original, found)
    digest = open_store(tmp_path / "parent").digest()
    assert found.weights["final.norm.pre.weight"].store.digest() == digest
    (tmp_path / "again").mkdir(exist_ok=True)
    save(found, tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == tensors.keys() and all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_all_layers_and_parts_in_one_tensor(tmp_path):
    original, tensors = parent(CONFIG, tmp_path / "parent")
    made = plain(tensors)
    norms = [made.pop(f"{key}.{i}") for key in NORMS for i in range(LAYERS)] + [made.pop("nf")]
    table = {key: name for key, name in PLAIN.items() if key.split(".")[0] not in (*NORMS, "nf")}
    table["norms"] = {"stack": [name.format(i=i) for name in NORMS.values() for i in range(LAYERS)] + [ENDS["nf"]]}
    same(original, load_with_names(*write(tmp_path, made | {"norms": torch.stack(norms)}, table)))


@pytest.mark.parametrize("transposed", [False, True])
def test_columns_of_a_flattened_table_in_another_order(tmp_path, transposed):
    original, tensors = parent(CONFIG, tmp_path / "parent")
    made, name = plain(tensors), MATRICES["down"]
    for i in range(LAYERS):
        turned = tensors[name.format(i=i)].unflatten(1, (2, 3)).transpose(1, 2).flatten(1)
        made[f"down.{i}"] = turned.T if transposed else turned
    row = {"tensor": name, "columns": [3, 2], **({"transpose": True} if transposed else {})}
    same(original, load_with_names(*write(tmp_path, made, PLAIN | {"down.{i}": row})))


def test_a_layer_of_a_stack_is_read_alone_and_a_transposed_tensor_once(tmp_path, monkeypatch):
    _, tensors = parent(CONFIG, tmp_path / "parent")
    made = plain(tensors)
    stack = torch.stack([made.pop(f"q.{i}") for i in range(LAYERS)])
    made["gate.0"] = made["gate.0"].T
    table = {key: name for key, name in PLAIN.items() if key not in ("q.{i}", "gate.{i}")}
    table |= {"wq": {"stack": MATRICES["q"]}, "gate.1": MATRICES["gate"].format(i=1)}
    table["gate.0"] = {"tensor": MATRICES["gate"].format(i=0), "transpose": True}
    found = load_with_names(*write(tmp_path, made | {"wq": stack}, table))
    read, inner = [], TensorStore.read_into
    monkeypatch.setattr(
        TensorStore,
        "read_into",
        lambda self, name, *at: read.append((name, len(at[0]), *at[1:])) or inner(self, name, *at),
    )
    assert torch.equal(held(found.weights["b1.attn.q.weight"]), stack[1])
    assert read == [("wq", stack[1].nbytes, stack[0].nbytes)]
    read.clear()
    parts = [found.weights["b0.ffn.gate.weight"].rows(row, row + 2) for row in (0, 2, 4)]
    assert torch.equal(torch.cat(parts), made["gate.0"].T) and [name for name, *_ in read] == ["gate.0"]


def test_dtypes_stay_and_a_folder_is_found(tmp_path):
    _, tensors = parent(CONFIG, tmp_path / "parent")
    made = plain(tensors)
    stack = torch.stack([made.pop(f"q.{i}") for i in range(LAYERS)]).bfloat16()
    table = {key: name for key, name in PLAIN.items() if key != "q.{i}"} | {"wq": {"stack": MATRICES["q"]}}
    write(tmp_path, made | {"wq": stack, "freq": torch.ones(2)}, table, ignore=["freq"])
    found = load_with_names(tmp_path, tmp_path / "names.yaml")
    assert {found.weights[f"b{i}.attn.q.weight"].dtype for i in range(LAYERS)} == {"BF16"}
    assert found.weights["b0.attn.k.weight"].dtype == "F32" and found.source.ignored == ("freq",)
    (tmp_path / "out").mkdir()
    save(found, tmp_path / "out", native=False)
    again = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(again[MATRICES["q"].format(i=1)], stack[1]) and "freq" not in again


class Fused(Llama):
    """A family whose files fuse the queries, keys and values."""

    name = "fused"
    model_types = ("fused",)
    defaults: ClassVar = {"fused": {}}
    classes: ClassVar = {"fused": "Fused"}

    def _attn_names(self, at, b, layer):
        rest = [e for e in super()._attn_names(at, b, layer) if e.pieces[0].split(".")[2] not in "qkv"]
        return [*linear(f"{at}.qkv", *(f"{b}.attn.{part}" for part in "qkv"), bias=False), *rest]


def test_parts_of_a_fused_tensor_of_mixed_dtype(tmp_path, monkeypatch):
    monkeypatch.setitem(builtins.FAMILIES, "fused", (f"{__name__}:Fused", "a family that fuses"))
    plugins.entries.cache_clear()
    config = CONFIG | {"model_type": "fused"}
    original, tensors = parent(config, tmp_path / "parent", "fused")
    table = {name: name for name in tensors if ".qkv." not in name}
    made = {name: tensors[name] for name in table}
    for i in range(LAYERS):
        for part in "qkv":
            made[f"{part}{i}"] = held(original.weights[f"b{i}.attn.{part}.weight"]).half()
    made |= {f"k{i}": made[f"k{i}"].float() for i in range(LAYERS)}
    with pytest.raises(RecipeError, match="2 tensors of the model are in no row") as caught:
        ignored = ["model.layers.{i}.qkv.weight"]
        load_with_names(*write(tmp_path, tensors, table, family="fused", config=config, ignore=ignored))
    assert "b0.attn.q.weight" in caught.value.hint
    table |= {f"{part}{{i}}": f"b{{i}}.attn.{part}.weight" for part in "qkv"}
    found = load_with_names(*write(tmp_path, made, table, family="fused", config=config))
    assert {found.weights[f"b1.attn.{part}.weight"].dtype for part in "qkv"} == {"F32"}
    (tmp_path / "out").mkdir()
    save(found, tmp_path / "out")
    again = load_file(tmp_path / "out" / "model.safetensors")
    expected = torch.cat([made["q0"].float(), made["k0"], made["v0"].float()])
    assert torch.equal(again["model.layers.0.qkv.weight"], expected)


MISTAKES = {
    "unknown family": (dict(family="lama"), "unknown family `lama`", "did you mean `llama`?", "lama"),
    "unknown key": (dict(tensor={}), "unknown key `tensor`", "did you mean `tensors`?", '"tensor"'),
    "foreign model_type": (
        dict(config=CONFIG | {"model_type": "bert"}),
        "'bert' is not of",
        "known",
        '"bert"',
    ),
    "config value": (dict(config=CONFIG | {"hidden_size": 0}), "hidden_size is 0", "", '"hidden_size"'),
    "no config": (dict(config=[]), "`config` is a mapping", "indent", "[]"),
    "no tokenizer": (dict(tokenizer="no.bin"), "no tokenizer `no.bin`", "beside", '"no.bin"'),
    "ignored nothing": (dict(ignore=["tok", "fre"]), "no tensor `fre` that could be ignored", "", '"fre"'),
}
ROWS = {
    "unknown tensor": ({"q.{i}": L + "self_attn.q_porj.weight"}, "no tensor", "q_proj.weight`?", '"model.layers'),
    "claimed twice": ({"x": ENDS["nf"]}, "`model.norm.weight` is claimed twice: by `nf`", "keep one", '"x"'),
    "unclaimed": ({"v.{i}": None}, "2 tensors of the model are in no row: model.layers.0", "add them", '"tensors"'),
    "unknown option": ({"nf": {"tensor": ENDS["nf"], "transposed": True}}, "unknown option", "`transpose`?", '"tran'),
    "two kinds": ({"nf": {"tensor": "a", "stack": "b"}}, "here is tensor and stack", "such as", "{"),
    "not a name": ({"nf": 3}, "not 3", "such as", "3"),
    "bad rotary": ({"nf": {"tensor": "a", "rotary": "yes"}}, "interleaved or half, not 'yes'", "", '"yes"'),
    "bad lead": ({"nf": {"tensor": "a", "lead": -1}}, "`lead` is a number", "", "-1"),
    "bad transpose": ({"nf": {"tensor": "a", "transpose": 1}}, "`transpose` is true or false", "", "1"),
    "bad columns": ({"nf": {"tensor": "a", "columns": [2]}}, "`columns` is two numbers", "[16, 42]", "["),
    "columns of a stack": ({"nf": {"stack": ["a"], "columns": [2, 4]}}, "said of a `tensor`", "", "["),
    "other columns": ({"down.{i}": {"tensor": MATRICES["down"], "columns": [2, 4]}},
                      "`down.0`: columns [2, 4] are not those of [8, 6]", "made of", '"down'),
    "empty fuse": ({"nf": {"fuse": []}}, "`fuse` is empty", "such as", "[]"),
    "missing {i}": ({"q.{i}": "model.layers.0.self_attn.q_proj.weight"}, "lacks {i}", "write {i}", '"model.layers.0'),
    "extra {i}": ({"nf": NORMS["an"]}, "what {i} in", "stack", f'"{NORMS["an"]}"'),
    "nothing to stack": ({"nf": {"stack": ENDS["nf"]}}, "exactly one placeholder", "list of names", '"model.norm'),
    "no rotary there": ({"nf": {"tensor": ENDS["nf"], "rotary": "half"}}, "reaches no query", "leave", '"model.norm'),
    "not in the file": ({"nf": None, "nff": ENDS["nf"]}, "has no tensor `nff`", "`nf`?", '"nff"'),
    "in no row": ({"tok": None, "x": ENDS["tok"]}, "1 tensors of weights.safetensors are in no row: tok [11, 8]",
                  "ignore", '"tensors"'),
    "transposed": ({"gate.{i}": {"tensor": MATRICES["gate"], "transpose": True}},
                   "`gate.0` is [6, 8] in the file; the table and config make it [8, 6]", "`transpose`", '"gate'),
    "vector transposed": ({"nf": {"tensor": ENDS["nf"], "transpose": True}}, "only a matrix", "made of", '"nf"'),
    "cannot be stacked": ({"nf": {"stack": [ENDS["nf"], ENDS["tok"]]}, "tok": None}, "different shapes", "", '"nf"'),
    "cannot be fused": ({"nf": {"fuse": [ENDS["nf"], ENDS["tok"]]}, "tok": None}, "cannot be fused", "", '"nf"'),
}  # fmt: skip


def failing(tmp_path, table, **others):
    _, tensors = parent(CONFIG, tmp_path / "parent")
    paths = write(tmp_path, plain(tensors), table, **others)
    with pytest.raises((RecipeError, InputError, ErrorList)) as caught:
        load_with_names(*paths)
    return caught.value.errors if isinstance(caught.value, ErrorList) else [caught.value]


def complains(problems, what, hint, text):
    [problem] = [p for p in problems if what in p.what]
    assert hint in problem.hint and problem.where.file.name == "names.yaml"
    assert problem.where.text[problem.where.column - 1 :].lstrip('"').startswith(text.lstrip('"'))


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_of_the_table_have_a_place(tmp_path, case):
    others, *expected = MISTAKES[case]
    complains(failing(tmp_path, PLAIN, **others), *expected)


@pytest.mark.parametrize("case", ROWS)
def test_mistakes_of_a_row_have_a_place(tmp_path, case):
    rows, *expected = ROWS[case]
    table = {key: value for key, value in (PLAIN | rows).items() if value is not None}
    complains(failing(tmp_path, table), *expected)


def test_several_mistakes_come_together(tmp_path):
    problems = failing(tmp_path, PLAIN | {"nf": 3, "tok": {"fuse": []}}, family="lama", extra=1)
    assert len(problems) == 4 and [p.where.line for p in problems] == sorted(p.where.line for p in problems)


def test_mapped_and_ignored_contradict(tmp_path):
    complains(failing(tmp_path, PLAIN, ignore=["q.{i}"]), "`q.0` is both mapped and ignored", "remove", '"q.{i}"')


def test_config_beside_the_weights_is_taken(tmp_path):
    original, tensors = parent(CONFIG, tmp_path / "parent")
    weights, names = write(tmp_path, plain(tensors), PLAIN)
    names.write_text(json.dumps({"family": "llama", "tensors": PLAIN}))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    same(original, load_with_names(weights, names))


def stories():
    return load_with_names(shared("stories260k", "stories260k.safetensors"), STORIES)


PUBLISHED = """\
Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a \
big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. She said, "I want to play \
with your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she said, "I'm sorry, mom. I didn't know what to do." Her mom said, "Don't \
worry, Lily. We can help you."""  # the greedy sample in llama2.c's doc/stories260K.md


def test_stories_tell_the_published_story():
    from archtool.data.scored_bpe import BOS, read_scored_bpe
    from archtool.model.generate import generate

    checkpoint = stories()
    ids = generate(checkpoint.module(), torch.tensor([[BOS]]), 256)
    text = read_scored_bpe(checkpoint.source.tokenizer).decode(ids[0].tolist())
    assert text.startswith(PUBLISHED)


def test_stories_have_their_loss():
    from archtool.data import DataSpec, TokenPreprocess, load_data
    from archtool.evaluate import evaluate

    checkpoint = stories()
    stated = TokenPreprocess(str(checkpoint.source.tokenizer), length=512, separator="<|endoftext|>")
    data = load_data(DataSpec(str(shared("tinystories_sample", "tinystories_sample.txt")), preprocess=stated))
    result = evaluate(checkpoint.module(), "lm", data, batch_size=2)
    assert result["tokens"] == 1804 and result["loss"] == pytest.approx(1.2664, abs=5e-4)


def test_saved_stories_load_everywhere(tmp_path):
    from transformers import AutoConfig, LlamaForCausalLM

    checkpoint = stories()
    save(checkpoint, tmp_path, native=False)
    ids = torch.tensor([[1, 403, 407, 261, 378, 17, 200, 31]])
    expected = checkpoint.module()(input_ids=ids)["logits"]
    assert AutoConfig.from_pretrained(tmp_path).rms_norm_eps == 1e-5
    theirs = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        assert (theirs(ids).logits - expected).abs().max() <= 1e-5
    assert torch.equal(load(tmp_path).module()(input_ids=ids)["logits"], expected)
    assert (tmp_path / "tokenizer.bin").read_bytes() == checkpoint.source.tokenizer.read_bytes()


def test_a_saved_tokenizer_travels_on(tmp_path):
    from archtool.data.spec import TokenPreprocess
    from archtool.data.tokenizers import open_tokenizer

    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    save(stories(), tmp_path / "first")
    save(load(tmp_path / "first"), tmp_path / "second")
    tokenizer = open_tokenizer(TokenPreprocess(), tmp_path / "second", "")
    assert tokenizer.vocabulary_size == 512


def test_opening_imports_no_torch():
    weights = shared("stories260k", "stories260k.safetensors")
    code = (
        "import sys; from archtool.config.name_table import load_with_names; "
        f"load_with_names({str(weights)!r}, {str(STORIES)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_shipped_table_is_no_recipe():
    from archtool.config.shipped import shipped_recipes

    assert STORIES.is_file() and not any(path == STORIES for path in shipped_recipes().values())
