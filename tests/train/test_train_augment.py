import numpy as np
import pytest
import torch

from archtool.data import DataSpec, load_data
from archtool.data.batches import Batch
from archtool.errors import UsageError
from archtool.train.augment import Augment, moved, rectangles, turned
from archtool.train.draws import betas, example_seeds, integers, seeds_at, uniforms
from archtool.train.feed import Feed
from archtool.train.objectives.classes import class_loss

EVERYTHING = Augment(1, 1, True, 20.0, 0.2, 0.5, 0.3, 0.3, 0.4, 1.0)
EACH = {
    "shift": 1, "crop": 1, "flip": True, "rotate": 20.0, "zoom": 0.2, "erase": 1.0, "brightness": 0.3,
    "contrast": 0.3, "mixup": 0.4, "cutmix": 1.0,
}  # fmt: skip


def digits(limit=24):
    return load_data(DataSpec("sklearn:digits", limit=limit))


def images(batch):
    return batch.inputs["pixel_values"]


def seeds(count):
    return seeds_at(0, np.zeros(count, np.uint64), np.arange(count, dtype=np.uint64))


def test_draws_are_uniform_independent_and_named():
    drawn = uniforms(seeds(20_000), "a", 2).numpy()
    assert abs(drawn.mean() - 0.5) < 0.01 and abs(drawn.var() - 1 / 12) < 0.002
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.03 and abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.03
    other = uniforms(seeds(20_000), "b", 1).numpy()
    assert abs(np.corrcoef(drawn[:, 0], other[:, 0])[0, 1]) < 0.02
    assert len(set(seeds(20_000).tolist())) == 20_000
    counts = np.bincount(integers(seeds(9000), "c", 1, 0, 2).flatten().numpy())
    assert counts.sum() == 9000 and counts.min() > 2800
    assert float(betas(seeds(20_000), "d", 0.5).var()) == pytest.approx(0.125, abs=0.005)


def test_a_seed_belongs_to_run_pass_and_position():
    ones = np.ones(1, np.uint64)
    made = {int(seeds_at(seed, p * ones, i * ones)[0]) for seed in (0, 1) for p in (0, 1) for i in (0, 1, 2)}
    assert len(made) == 12
    assert int(seeds_at(3, 2 * ones, 5 * ones)[0]) == 4563048901507311508  # the formula is part of stored teachers


@pytest.mark.parametrize("augment", [*(Augment(**{name: value}) for name, value in EACH.items()), EVERYTHING], ids=str)
def test_an_image_is_changed_alike_in_any_batch(augment):
    data = digits()
    large, small, alone = Feed(data, 12, 7), Feed(data, 4, 7), Feed(data, 1, 7)

    def changed(feed, numbers):
        batches = [feed.batch(i) for i in numbers]
        return [augment(batch, example_seeds(7, batch), feed) for batch in batches]

    whole, parts, single = changed(large, range(4)), changed(small, range(12)), changed(alone, range(48))
    expected = torch.cat([images(b) for b in whole])
    assert torch.equal(expected, torch.cat([images(b) for b in parts]))
    assert torch.equal(expected, torch.cat([images(b) for b in single]))
    plain = torch.cat([images(large.batch(i)) for i in range(4)])
    assert not torch.equal(expected, plain) and expected.shape == plain.shape and expected.isfinite().all()
    assert len(expected.flatten(1).unique(dim=0)) > 24  # other changes in the second pass


def test_no_change_gives_the_same_object_and_other_data_passes():
    feed = Feed(digits(), 4, 0)
    batch = feed.batch(0)
    assert Augment()(batch, example_seeds(0, batch), feed) is batch
    text = Batch({"input_ids": torch.zeros(1, 2)}, {}, torch.arange(1), torch.zeros(1))
    assert EVERYTHING(text, example_seeds(0, text), feed) is text


def test_moved_images_repeat_their_border_or_show_zeros():
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    right_and_down = torch.tensor([[1, 1]])
    assert moved(x, right_and_down, repeat=True).flatten().tolist() == [0, 0, 1, 0, 0, 1, 3, 3, 4]
    assert moved(x, right_and_down, repeat=False).flatten().tolist() == [0, 0, 0, 0, 0, 1, 0, 3, 4]
    assert torch.equal(moved(x, torch.zeros(1, 2).long(), repeat=False), x)


def test_turning_by_a_right_angle_is_exact_and_magnifying_keeps_the_centre():
    x = torch.rand(1, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    half_turn = turned(x, torch.tensor([torch.pi]).double(), torch.ones(1).double())
    assert torch.allclose(half_turn, x.flip(-1, -2), atol=1e-5)
    square = x[..., :4]
    quarter = turned(square, torch.tensor([torch.pi / 2]).double(), torch.ones(1).double())
    assert torch.allclose(quarter, torch.rot90(square, 1, (-2, -1)), atol=1e-5)
    large = turned(torch.eye(8)[None, None], torch.zeros(1).double(), torch.tensor([2.0]).double())
    assert float(large[0, 0, 0, 0]) > 0.1 and float(large.sum()) > float(torch.eye(8).sum())


def test_rectangles_have_their_area_and_stay_inside():
    inside = rectangles(torch.tensor([0.25, 1.0]), torch.ones(2), torch.tensor([[0.5, 0.5], [0.5, 0.5]]), (8, 8))
    assert inside.sum((1, 2)).tolist() == [16, 64]
    corner = rectangles(torch.tensor([0.25]), torch.ones(1), torch.tensor([[0.0, 0.0]]), (8, 8))
    assert int(corner.sum()) == 4 and bool(corner[0, 0, 0])


def test_erasing_and_recolouring_do_what_they_say():
    feed = Feed(digits(), 24, 0)
    batch = feed.batch(0)
    plain, drawn = images(batch), example_seeds(0, batch)
    erased = images(Augment(erase=1.0)(batch, drawn, feed))
    changed = (erased != plain).flatten(1)
    assert (erased[erased != plain] == 0).all() and bool(changed.any())
    assert float(changed.float().mean(1).max()) <= 0.3
    lit = images(Augment(brightness=0.5)(batch, drawn, feed)) - plain
    assert torch.allclose(lit, lit[:, :1, :1, :1].expand_as(lit), atol=1e-5)
    flat = images(Augment(contrast=0.5)(batch, drawn, feed))
    assert torch.allclose(flat.mean((1, 2, 3)), plain.mean((1, 2, 3)), atol=1e-5)
    assert not torch.allclose(flat.std((1, 2, 3)), plain.std((1, 2, 3)), atol=1e-3)


def test_mixed_images_are_between_two_of_the_data_and_keep_both_labels():
    feed = Feed(digits(), 24, 0)
    batch = feed.batch(0)
    drawn = example_seeds(0, batch)
    mixed = Augment(mixup=1.0)(batch, drawn, feed)
    share = mixed.targets["label_share"]
    partner = feed.take(integers(drawn, "partner", 1, 0, 23)[:, 0].numpy())
    expected = share[:, None, None, None] * images(batch) + (1 - share[:, None, None, None]) * images(partner)
    assert torch.allclose(images(mixed), expected, atol=1e-6)
    assert torch.equal(mixed.targets["other_labels"], partner.targets["labels"]) and float(share.min()) > 0
    cut = Augment(cutmix=1.0)(batch, drawn, feed)
    own = (images(cut) == images(batch)) | (images(cut) == images(partner))
    assert own.all()
    pasted = (images(cut) != images(batch)).float().mean((1, 2, 3))
    assert (pasted <= 1 - cut.targets["label_share"] + 1e-6).all()


def test_the_loss_of_mixed_labels_is_that_of_soft_labels():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    labels, other, share = torch.tensor([0, 1, 2]), torch.tensor([3, 1, 0]), torch.tensor([0.25, 0.5, 1.0])
    batch = Batch({}, {"labels": labels, "other_labels": other, "label_share": share}, torch.arange(3))
    soft = torch.zeros(3, 4)
    for i in range(3):
        soft[i, labels[i]] += share[i]
        soft[i, other[i]] += 1 - share[i]
    expected = torch.nn.functional.cross_entropy(logits, soft)
    assert float(class_loss({"logits": logits}, batch)) == pytest.approx(float(expected), rel=1e-6)


def test_settings_are_checked():
    for bad in ({"shift": -1}, {"erase": 1.5}, {"zoom": 1.0}):
        with pytest.raises(UsageError):
            Augment(**bad)
