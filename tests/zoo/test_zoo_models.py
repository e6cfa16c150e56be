"""Every builder of the zoo, at small settings, through edits, encodings, exports and a fresh process."""

import pytest
import torch

from archtool.builtins import ZOO
from archtool.export.model import export_model
from archtool.export.reference import reference_inputs
from archtool.export.verify import record, verify_all
from archtool.ir.axes import Selection
from archtool.ir.edit import Drop, Edit, Encode, RefusedEdit, Select, Unshare
from archtool.ir.encodings import Affine
from archtool.model.apply import apply
from archtool.model.masked import masked_parent
from archtool.model.preset import composed
from archtool.transforms.quantize.rtn import candidates
from archtool.transforms.units import unit_axes
from tests.operators import checks

TINY = {
    "cct": dict(image_size=16, depth=2, heads=2, mlp_ratio=2, width=8, kernel_size=3, conv_layers=2, num_labels=3,
                conv_width=6),
    "sret": dict(image_size=32, head_dim=4, depths=[2, 2], heads=[2, 4], groups=[4, 2], groups_again=[2, 1],
                 mlp_ratio=2.0, between_ratio=1.0, num_labels=3),
    "efficientformer": dict(image_size=32, depths=[1, 2], widths=[8, 12], attention_blocks=1, num_labels=3,
                            mlp_ratio=2.0, heads=2, key_dim=4, value_dim=6),
    "spectformer": dict(image_size=16, patch_size=4, depth=2, spectral=1, heads=2, mlp_ratio=2.0, width=8,
                        num_labels=3),
    "ascan": dict(image_size=32, stages=["CT", "T"], widths=[8, 12], head_width=4, mlp_ratio=2.0, expansion=2.0,
                  num_labels=3, stem_width=6),
    "itransformer": dict(context_length=12, prediction_length=5, num_channels=3, depth=2, width=8, hidden=12, heads=2),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", sorted(TINY))


def tiny(name):
    return checks.made(composed(name, TINY[name])[0])


def narrowed(checkpoint, kinds=("ffn", "heads")):
    """Every axis of these kinds without its first entry."""
    arch = checkpoint.architecture
    selections = (Select(Selection(a, tuple(range(1, arch.size[a])))) for a in unit_axes(arch, kinds))
    return apply(checkpoint, Edit("test", tuple(selections)))


def int8(checkpoint):
    fits = [t for t in candidates(checkpoint.architecture) if not Affine().refuses(checkpoint.weights[t].shape)]
    return apply(checkpoint, Edit("test", tuple(Encode(t, Affine()) for t in fits)))


def test_every_builder_is_tested():
    assert set(TINY) == set(ZOO)


@EACH
def test_data_cost_gradients_and_edits(name):
    arch = tiny(name).architecture
    checks.check_data(arch)
    checks.check_cost(arch)
    checks.check_gradient(arch)
    checks.check_masked(arch)


@EACH
def test_dropped_branches_equal_silenced_ones(name):
    checkpoint = tiny(name)
    feed, dropped = reference_inputs(checkpoint.architecture), 0
    for place in checkpoint.architecture.places:
        if not place.layer.residual or any(b.share == place.block.name for b in checkpoint.architecture.blocks):
            continue
        edit = Edit("test", (Drop(place.block.name, place.layer.name),))
        with torch.no_grad():
            out = apply(checkpoint, edit).module()(**feed)
            expected = masked_parent(checkpoint.module(), edit)(**feed)
        assert all(torch.allclose(out[key], expected[key], atol=1e-5) for key in out), place.key
        dropped += 1
    assert dropped >= 4


def test_a_block_that_is_called_twice_keeps_one_set_of_tensors_until_it_is_unshared():
    checkpoint = tiny("sret")
    with pytest.raises(RefusedEdit, match="share"):
        apply(checkpoint, Edit("test", (Drop("s0b0"),)))
    alone = Unshare("s0b0again"), Select(Selection("s0b0again.ffn.hidden", (0, 3)))
    small = apply(checkpoint, Edit("test", alone))
    assert small.architecture.size["s0b0.ffn.hidden"] == 16
    with torch.no_grad():
        assert small.module()(**reference_inputs(small.architecture))["logits"].isfinite().all()


def test_exports_reload_in_a_fresh_process(tmp_path):
    changes = {"narrow": lambda c: narrowed(narrowed(c), ("width",)), "int8": int8}
    folders, graphs = [], ("sret-narrow", "efficientformer-int8")
    for name in TINY:
        for change, make in changes.items():
            folder, checkpoint = tmp_path / f"{name}-{change}", make(tiny(name))
            exported = export_model(checkpoint, folder / "model", onnx=folder.name in graphs)
            assert exported.dialect == "remote"
            record(checkpoint, exported, folder)
            folders.append(folder)
    for folder, found in verify_all(folders).items():
        assert len(found) == 1 + (folder.name in graphs) and all(v.passed for v in found), (folder.name, found)
        limit = {"transformers": 1e-5, "onnxruntime": 1e-4}
        assert all(v.max_abs_diff <= limit[v.runtime] for v in found), (folder.name, found)
