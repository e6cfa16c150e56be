"""Reports that the tests draw: a realistic one, a very deep one, one with almost nothing, a hostile one."""

import random

from archtool.report import (
    BudgetCheck,
    Candidate,
    Command,
    ExportCheck,
    LayerRow,
    Metric,
    PredictedPair,
    Prediction,
    Provenance,
    Report,
    Search,
    Skipped,
    Snapshot,
    StepRecord,
    TensorRow,
    latency_sample,
)

RECIPE = """model: all-MiniLM-L6-v2
data: stsb-en-dev.csv
seed: 0
steps:
  - prune: {structure: [heads, ffn], budget: "params=0.6x"}   # magnitude, per block
  - quantize: {scheme: w8a16, group: 64}
  - export: {format: onnx}
"""


def times(rng: random.Random, median_ms: float, n: int = 120) -> list[float]:
    return [median_ms * (0.97 + rng.expovariate(18)) for _ in range(n)]


def grid(rng: random.Random, factor: float, precision: str) -> tuple:
    shapes = [("onnxruntime", 1, 64, 3.42), ("onnxruntime", 8, 64, 21.7), ("torch", 1, 64, 6.51)]
    return tuple(
        latency_sample(
            times(rng, median * factor),
            runtime=runtime,
            batch=batch,
            length=length,
            precision=precision,
            device="Xeon 8481C",
            threads=1,
        )
        for runtime, batch, length, median in shapes
    )


def layer_rows(rng: random.Random, blocks: int, ffn: int = 1536, heads: int = 12) -> tuple[LayerRow, ...]:
    rows = []
    for block in range(blocks):
        depth = block / max(1, blocks - 1)
        kept_heads = max(0, min(heads, round(heads * (0.45 + 0.5 * depth + rng.uniform(-0.15, 0.15)))))
        kept_ffn = 64 * round(ffn * (0.35 + 0.4 * depth + rng.uniform(-0.1, 0.1)) / 64)
        rows.append(
            LayerRow(
                block=str(block),
                structure="heads",
                kept=kept_heads,
                original=heads,
                score=2e-4 * (1.1 - depth) * rng.uniform(0.6, 1.4),
            )
        )
        rows.append(
            LayerRow(
                block=str(block),
                structure="ffn",
                kept=kept_ffn,
                original=ffn,
                score=4e-3 * (1.2 - depth) * rng.uniform(0.6, 1.4),
            )
        )
        rows.append(LayerRow(block=str(block), structure="bits", kept=8 if depth < 0.8 else 4, original=32))
    return tuple(rows)


def tensor_rows(rng: random.Random, blocks: int) -> tuple[TensorRow, ...]:
    names = [
        "attention.self.query",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ]
    return tuple(
        TensorRow(
            name=f"encoder.layer.{block}.{name}.weight",
            scheme="int8, group 64" if block < blocks - 1 else "int4, group 64",
            bits=8.25 if block < blocks - 1 else 4.25,
            error=(0.004 if block < blocks - 1 else 0.07) * rng.uniform(0.7, 1.3),
            size_bytes=rng.randrange(90_000, 480_000),
        )
        for block in range(blocks)
        for name in names
    )


def search(rng: random.Random) -> Search:
    points = [
        Candidate(name="parent", role="parent", quality=0.8672, costs={"size_bytes": 90_869_608, "latency_ms": 3.42})
    ]
    for i in range(40):
        share = rng.uniform(0.15, 0.9)
        quality = 0.87 - 0.09 * (1 - share) ** 2 - rng.expovariate(60)
        costs = {
            "size_bytes": 9.09e7 * share,
            "latency_ms": 3.42 * (0.12 + 0.88 * share) * rng.uniform(1, 1.1),
        }
        points.append(Candidate(name=f"trial {i}", role="candidate", quality=quality, costs=costs))
    for share in (0.2, 0.35, 0.5, 0.75):
        costs = {"size_bytes": 9.09e7 * share, "latency_ms": 3.42 * (0.1 + 0.88 * share)}
        role = "chosen" if share == 0.35 else "front"
        points.append(Candidate(name=f"{share:.0%}", role=role, quality=0.87 - 0.08 * (1 - share) ** 2, costs=costs))
        for baseline, drop in (("uniform", 0.16), ("random", 0.24)):
            quality = 0.87 - drop * (1 - share) ** 2
            spread = 0.012 if baseline == "random" else None
            points.append(
                Candidate(name=f"{baseline} {share:.0%}", role=baseline, quality=quality, costs=costs, spread=spread)
            )
    return Search(quality_name="spearman", candidates=tuple(points))


def prediction(rng: random.Random) -> Prediction:
    pairs = []
    for block in range(12):
        predicted = 0.002 * (block + 1) * rng.uniform(0.7, 1.3)
        measured = predicted * rng.uniform(0.8, 1.6)
        pairs.append(PredictedPair(name=f"block {block} ffn", predicted=predicted, measured=measured))
    return Prediction(quantity="Increase of the loss", unit="nats", pairs=tuple(pairs))


COMMANDS = (
    Command(purpose="Reproduce this run", code="archtool run recipe.lock.yaml --seed 0 --out runs/minilm-small"),
    Command(purpose="Check the written files again", code="archtool verify runs/minilm-small"),
    Command(
        purpose="Load in transformers (dialect: remote)",
        language="python",
        code='from transformers import AutoModel, AutoTokenizer\n\nfolder = "runs/minilm-small/model"\n'
        "model = AutoModel.from_pretrained(folder, trust_remote_code=True)\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        note="The head count differs from block to block, which the stock BERT class does not accept; "
        "modeling_archtool.py in the folder is the code that will run.",
    ),
)


def snapshots(rng: random.Random) -> tuple[Snapshot, Snapshot]:
    parent = Snapshot(
        name="all-MiniLM-L6-v2",
        parameters=22_713_216,
        embedding_parameters=11_920_512,
        size_bytes=90_869_608,
        padding_bytes=0,
        bits_per_weight=32.0,
        macs=680_656_896,
        activation_bytes=4_325_376,
        peak_memory_bytes=171_200_512,
        metrics={
            "spearman": Metric(value=0.8203, stderr=0.0092),
            "spearman_dev": Metric(value=0.8672, stderr=0.0081),
        },
        latency=grid(rng, 1.0, "fp32"),
    )
    child = Snapshot(
        name="minilm-small",
        parameters=17_634_816,
        embedding_parameters=11_920_512,
        size_bytes=18_305_128,
        padding_bytes=4_864,
        bits_per_weight=8.2,
        macs=352_321_536,
        activation_bytes=2_883_584,
        peak_memory_bytes=58_720_256,
        metrics={
            "spearman": Metric(value=0.8119, stderr=0.0094),
            "spearman_dev": Metric(value=0.8421, stderr=0.0086),
            "agreement_top1": Metric(value=0.941),
        },
        latency=grid(rng, 0.54, "int8 weights"),
    )
    return parent, child


def realistic() -> Report:
    rng = random.Random(7)
    parent, child = snapshots(rng)
    return Report(
        title="all-MiniLM-L6-v2, pruned and quantized to 20 MB",
        model_name="all-MiniLM-L6-v2",
        family="bert",
        base_model="sentence-transformers/all-MiniLM-L6-v2",
        task="similarity",
        input_shape="batch 1 × 64 tokens",
        parent=parent,
        child=child,
        budgets=(
            BudgetCheck(request="size=20MB", achieved=18_305_128, limit=20e6, unit="bytes", met=True),
            BudgetCheck(request="latency=2ms", achieved=child.latency[0].median_ms, limit=2.0, unit="ms", met=True),
            BudgetCheck(request="spearman>=0.82", achieved=0.8119, limit=0.82, met=False),
        ),
        layers=layer_rows(rng, 6),
        tensors=tensor_rows(rng, 6),
        steps=(
            StepRecord(name="prune", seconds=12.4, summary="22.7 M → 17.6 M parameters by magnitude, per block"),
            StepRecord(
                name="quantize",
                seconds=3.1,
                summary="30 tensors to int8 or int4 in groups of 64",
                warnings=("block 5: int4 error 7 % is above the 5 % where quality usually holds",),
            ),
            StepRecord(name="evaluate", seconds=281.0, summary="1,379 sentence pairs, twice"),
            StepRecord(name="export", summary="remote dialect, ONNX"),
        ),
        predictions=(prediction(rng),),
        search=search(rng),
        skipped=(
            Skipped(what="embeddings.word_embeddings.weight", reason="protected by --protect 'embeddings.*'"),
            Skipped(what="encoder.layer.0.attention", reason="already at the smallest head count (4)"),
        ),
        exports=(
            ExportCheck(
                dialect="remote",
                loads_in="transformers with trust_remote_code",
                max_difference=3.6e-7,
                tolerance=1e-5,
                fresh_process=True,
            ),
            ExportCheck(dialect="onnx", loads_in="ONNX Runtime", max_difference=2.1e-6, tolerance=1e-5),
            ExportCheck(dialect="gguf", loads_in="llama.cpp"),
        ),
        commands=COMMANDS,
        limits=(
            "Quality was measured on English sentence pairs only; other languages and long texts were not.",
            "Latency is that of one machine with one thread; the ratio may differ elsewhere.",
        ),
        provenance=provenance(),
    )


def provenance() -> Provenance:
    return Provenance(
        seed=0,
        started="2025-11-21T09:30:00Z",
        wall_seconds=312.4,
        inputs={"model.safetensors": "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
        outputs={"model.safetensors": "sha256:0d1f7a3c5e9b2468ace013579bdf02468ace13579bdf02468ace13579bdf0246"},
        data={"stsb-en-dev.csv": "sha256:9a1d5c7e3b2f48606a7c9d1e3f5b7a9c1d3e5f7a9b1c3d5e7f9a1b3c5d7e9f1a"},
        versions={"archtool": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "onnxruntime": "1.31.1"},
        hardware={"processor": "Xeon 8481C", "cores": "2", "memory": "16.0 GB", "isa": "AVX512-VNNI"},
        recipe=RECIPE,
    )


def deep(blocks: int = 80) -> Report:
    rng = random.Random(3)
    parent, child = snapshots(rng)
    layers = layer_rows(rng, blocks, ffn=28_672, heads=64)
    return Report(title=f"A stack of {blocks} blocks", model_name="deep", parent=parent, child=child, layers=layers)


def bare() -> Report:
    child = Snapshot(name="tiny", parameters=1234)
    return Report(title="Only counted", model_name="tiny", child=child)


HOSTILE = "</script><script>alert('x')</script>\"'&|`*$x_1$"


def hostile() -> Report:
    child = Snapshot(name=HOSTILE, parameters=3, metrics={HOSTILE: Metric(value=0.5, unit=HOSTILE)})
    return Report(
        title=HOSTILE,
        model_name=HOSTILE,
        family=HOSTILE,
        base_model=HOSTILE,
        child=child,
        parent=child,
        budgets=(BudgetCheck(request=HOSTILE, achieved=1.0, unit=HOSTILE, met=True),),
        layers=(LayerRow(block=HOSTILE, structure=HOSTILE, kept=1, original=2, score=0.1),),
        tensors=(TensorRow(name=HOSTILE, scheme=HOSTILE, bits=4, error=0.1),),
        steps=(StepRecord(name=HOSTILE, summary=HOSTILE, warnings=(HOSTILE,)),),
        search=Search(
            quality_name=HOSTILE,
            candidates=(Candidate(name=HOSTILE, role=HOSTILE, quality=1.0, costs={HOSTILE: 1.0}),),
        ),
        predictions=(
            Prediction(
                quantity=HOSTILE,
                unit=HOSTILE,
                pairs=(PredictedPair(name=HOSTILE, predicted=1.0, measured=2.0),),
            ),
        ),
        skipped=(Skipped(what=HOSTILE, reason=HOSTILE),),
        exports=(ExportCheck(dialect=HOSTILE, loads_in=HOSTILE),),
        commands=(Command(purpose=HOSTILE, code=HOSTILE + "\n```\n", language=HOSTILE, note=HOSTILE),),
        limits=(HOSTILE,),
        provenance=Provenance(started=HOSTILE, recipe=HOSTILE, inputs={HOSTILE: HOSTILE}, versions={HOSTILE: HOSTILE}),
    )
