"""Pixels and tokens against independent implementations."""

import json
import random
import struct

import numpy as np
import pytest
import torch
from data_files import first_batch, shared, words_folder, write_lines  # noqa: F401
from PIL import Image

from archtool.data import DataSpec, ImagePreprocess, TokenPreprocess, load_data
from archtool.data.encode_images import prepare, read_processor
from archtool.data.scored_bpe import ScoredBPE, read_scored_bpe
from archtool.errors import InputError

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(("number", "name"), [(2, "bilinear"), (3, "bicubic"), (0, "nearest")])
@pytest.mark.parametrize("size", [(12, 20), (48, 40)])  # from odd to even sizes nearest has no ties
def test_resize_equals_pil_width_first(number, name, size):
    image = np.random.default_rng(0).integers(0, 256, (33, 25, 3), dtype=np.uint8)
    ours = prepare(image, ImagePreprocess(size=size, resample=name, rescale=1.0)).permute(1, 2, 0).numpy()
    wide = Image.fromarray(image).resize((size[1], 33), number)
    pil = np.asarray(wide.resize(size[::-1], number)).astype(float)
    assert np.abs(ours - pil).max() <= 1
    assert (ours == pil).mean() > 0.93


def test_normalise_channels_and_crop_by_hand():
    grey = np.array([[0, 255], [51, 102]], dtype=np.uint8)
    stated = ImagePreprocess(channels=3, mean=(0.5, 0.0, 0.2), std=(0.5, 1.0, 2.0))
    out = prepare(grey, stated)
    assert out.shape == (3, 2, 2)
    torch.testing.assert_close(out[0], torch.tensor([[-1.0, 1.0], [-0.6, -0.2]]))
    torch.testing.assert_close(out[2], torch.tensor([[-0.1, 0.4], [0.0, 0.1]]))
    colour = np.zeros((2, 2, 3), dtype=np.uint8)
    colour[..., 1] = 100
    torch.testing.assert_close(prepare(colour, ImagePreprocess(channels=1, rescale=1.0)), torch.full((1, 2, 2), 58.7))
    large = np.arange(36, dtype=np.uint8).reshape(6, 6)
    out = prepare(large, ImagePreprocess(crop=(2, 4), rescale=1.0))
    assert out[0].tolist() == large[2:4, 1:5].tolist()
    out = prepare(grey, ImagePreprocess(crop=(4, 2), rescale=1.0))
    assert out[0].tolist() == [[0, 0], [0, 255], [51, 102], [0, 0]]


def test_processor_config_gives_what_transformers_gives(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 16, "width": 16},
        "resample": 2,
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    image = GENERATOR.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    ours = prepare(image, read_processor(tmp_path))
    try:
        from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil as Processor
    except ImportError:
        Processor = transformers.ViTImageProcessor
    try:
        processor = Processor.from_pretrained(tmp_path)
    except ImportError as error:
        pytest.skip(f"transformers has no usable image processor here: {error}")
    theirs = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
    assert (ours - theirs).abs().max() <= 1.01 / 255 / 0.2


def test_processor_variants(tmp_path):
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"size": 20, "do_center_crop": True, "crop_size": 16, "resample": 3}))
    assert read_processor(tmp_path) == ImagePreprocess((20, 20), None, (16, 16), "bicubic", 3)
    file.write_text(json.dumps({"size": {"shortest_edge": 8}, "do_rescale": False, "do_normalize": False}))
    stated = read_processor(tmp_path)
    assert stated == ImagePreprocess(None, 8, channels=3, rescale=1.0)
    assert prepare(np.zeros((16, 24), np.uint8), stated).shape == (3, 8, 12)
    file.write_text(json.dumps({"size": 20, "resample": 1}))
    with pytest.raises(InputError, match="lanczos"):
        read_processor(tmp_path)
    file.write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        read_processor(tmp_path)
    assert read_processor(None) == ImagePreprocess()


def test_images_of_different_size_need_a_size(tmp_path):
    (tmp_path / "cat").mkdir()
    for edge in (4, 6):
        Image.new("RGB", (edge, edge)).save(tmp_path / "cat" / f"{edge}.png")
    with pytest.raises(InputError, match="differ in size"):
        load_data(DataSpec(str(tmp_path)))
    data = load_data(DataSpec(str(tmp_path), preprocess=ImagePreprocess(size=(4, 4))))
    assert first_batch(data).inputs["pixel_values"].shape == (2, 3, 4, 4)


def toy_bpe():
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(b"<0x%02X>" % byte for byte in range(256))]
    learned = [b" ", b"a", b"b", b"c", b"ab", b"bc", b" a", b"abc", b" ab", b"aa", b"aab", b"abab"]
    scores = [0.0] * len(pieces) + [-1.0, -2.0, -3.0, -4.0, -1.5, -1.2, -5.0, -0.5, -0.7, -2.0, -6.0, -0.1]
    return ScoredBPE((*pieces, *learned), tuple(scores))


def naive_merge(bpe, text):
    """The quadratic loop of the definition."""
    ids = bpe._characters(" " + text)
    while True:
        best = None
        for place in range(len(ids) - 1):
            joined = bpe.ids.get(bpe.pieces[ids[place]] + bpe.pieces[ids[place + 1]])
            if joined is not None and (best is None or bpe.scores[joined] > best[0]):
                best = (bpe.scores[joined], place, joined)
        if best is None:
            return [1, *ids]
        ids[best[1] : best[1] + 2] = [best[2]]


def test_scored_bpe_equals_the_naive_loop():
    bpe, chance = toy_bpe(), random.Random(0)
    for _ in range(200):
        text = "".join(chance.choice("aaabbc é") for _ in range(chance.randint(1, 30)))
        assert bpe.encode(text) == naive_merge(bpe, text)
        assert bpe.decode(bpe.encode(text)) == text
    assert bpe.encode("a", bos=False) == bpe.encode("a")[1:]
    assert bpe.encode("") == [1]


def test_scored_bpe_file(tmp_path):
    bpe = toy_bpe()
    content = struct.pack("<i", 7)
    for piece, score in zip(bpe.pieces, bpe.scores, strict=True):
        content += struct.pack("<fi", score, len(piece)) + piece
    (tmp_path / "tok.bin").write_bytes(content)
    read = read_scored_bpe(tmp_path / "tok.bin")
    assert read.pieces == bpe.pieces and read.encode("abc abc") == bpe.encode("abc abc")
    (tmp_path / "t.txt").write_text("abc abc")
    by_folder = load_data(DataSpec(str(tmp_path / "t.txt"), "lm"), tmp_path)
    assert first_batch(by_folder).inputs["input_ids"].tolist() == [bpe.encode("abc abc")[:-1]]
    (tmp_path / "short.bin").write_bytes(content[:100])
    with pytest.raises(InputError):
        read_scored_bpe(tmp_path / "short.bin")
    with pytest.raises(InputError, match="cannot be read"):
        read_scored_bpe(tmp_path / "none.bin")


def test_stories_tokenizer_gives_the_known_count_and_the_text_back():
    tokenizer = read_scored_bpe(shared("stories260k", "tok512.bin"))
    text = shared("tinystories_sample", "tinystories_sample.txt").read_text()
    stories = [story.strip() for story in text.split("<|endoftext|>") if story.strip()]
    encoded = [tokenizer.encode(story) for story in stories]
    assert tokenizer.vocabulary_size == 512
    assert sum(len(ids) - 1 for ids in encoded) == 1804
    assert [tokenizer.decode(ids) for ids in encoded] == stories
    assert encoded[0] == naive_merge(tokenizer, stories[0])


def test_folder_tokenizer_for_lm(tmp_path, words_folder):  # noqa: F811
    path = write_lines(tmp_path / "t.txt", "a b c")
    own = load_data(DataSpec(str(path), "lm"), words_folder)
    assert first_batch(own).inputs["input_ids"].tolist() == [[2, 4, 5, 6]]
    bare = load_data(DataSpec(str(path), "lm", preprocess=TokenPreprocess(bos=False)), words_folder)
    assert first_batch(bare).inputs["input_ids"].tolist() == [[4, 5]]
    assert own.tokenizer.decode([4, 5]) == "a b" and own.tokenizer.vocabulary_size == 17


def test_grey_images_of_16_bits_are_brought_to_255(tmp_path):
    (tmp_path / "cat").mkdir()
    deep = np.array([[0, 65535], [257, 514]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "cat" / "a.png")
    data = load_data(DataSpec(str(tmp_path), preprocess=ImagePreprocess(rescale=1.0)))
    assert first_batch(data).inputs["pixel_values"][0, 0].tolist() == [[0, 255], [1, 2]]
