"""The table of everything that ships with archtool: kind → name → (``module:attribute``, summary).

One line here and one file is all that a built-in needs. Nothing in the table is imported before it is used,
so summaries stand here and ``archtool --help`` stays fast. A step's name is its command-line verb.
"""

from collections.abc import Mapping

Table = Mapping[str, tuple[str, str]]

FAMILIES: Table = {
    "bert": ("archtool.families.bert:Bert", "BERT and MiniLM"),
    "roberta": ("archtool.families.roberta:Roberta", "RoBERTa and XLM-RoBERTa"),
    "distilbert": ("archtool.families.distilbert:DistilBert", "DistilBERT"),
    "vit": ("archtool.families.vit:Vit", "Vision Transformer, Hugging Face names"),
    "deit": ("archtool.families.deit:Deit", "DeiT with class and distillation heads, Hugging Face names"),
    "swin": ("archtool.families.swin:Swin", "Swin Transformer"),
    "timm_vit": ("archtool.families.timm_vit:TimmVit", "ViT and DeiT with timm's names"),
    "convnext": ("archtool.families.convnext:ConvNext", "ConvNeXt and ConvNeXt V2"),
    "poolformer": ("archtool.families.poolformer:PoolFormer", "PoolFormer"),
    "segformer": ("archtool.families.segformer:Segformer", "SegFormer, classifier and segmentation"),
    "pvt_v2": ("archtool.families.pvt_v2:PvtV2", "PVT v2, strided and linear"),
    "mobilevit": ("archtool.families.mobilevit:MobileVit", "MobileViT, Hugging Face names"),
    "mobilevitv2": ("archtool.families.mobilevitv2:MobileVitV2", "MobileViTv2, Hugging Face names"),
    "llama": ("archtool.families.llama:Llama", "Llama 2/3, Mistral, Qwen2, Qwen3"),
    "gemma2": ("archtool.families.gemma2:Gemma2", "Gemma-2"),
    "phi3": ("archtool.families.phi3:Phi3", "Phi-3, Phi-4"),
    "starcoder2": ("archtool.families.starcoder2:Starcoder2", "StarCoder2"),
    "gpt2": ("archtool.families.gpt2:Gpt2", "GPT-2"),
    "marian": ("archtool.families.marian:Marian", "Marian and OPUS-MT"),
    "opennmt": ("archtool.families.opennmt:OpenNmt", "OpenNMT translation models, CTranslate2's names"),
    "t5": ("archtool.families.t5:T5", "T5, FLAN-T5, mT5"),
    "patchtst": ("archtool.families.patchtst:PatchTst", "PatchTST: forecasting, classification, regression"),
    "mamba": ("archtool.families.mamba:Mamba", "Mamba"),
}

OPERATORS: Table = {
    "mix.attn": ("archtool.operators.attention:Attention", "softmax self-attention"),
    "mix.attn.window": ("archtool.operators.window_attention:WindowAttention", "(shifted) window attention"),
    "mix.attn.dilated": ("archtool.operators.grid_attention:GridAttention", "attention between cells far apart"),
    "mix.attn.neigh": ("archtool.operators.neighbourhood:NeighbourhoodAttention", "attention to the cells around"),
    "mix.attn.stripe": ("archtool.operators.stripe_attention:StripeAttention", "attention in stripes of both ways"),
    "mix.attn.merged": ("archtool.operators.merged_attention:MergedAttention", "attention between merged tokens"),
    "mix.attn.relbias": ("archtool.operators.biased_attention:BiasedAttention", "with a bias per relative position"),
    "mix.attn.cross": ("archtool.operators.cross_attention:CrossAttention", "softmax attention to another stream"),
    "mix.ssm": ("archtool.operators.ssm:Ssm", "selective state space (Mamba block) with scan orders"),
    "mix.ssm.dual": ("archtool.operators.ssd:Ssd", "state space with one decay per head (Mamba-2 block)"),
    "mix.conv.hyena": ("archtool.operators.hyena:Hyena", "two gates around a short or an implicit long convolution"),
    "mix.rnn": ("archtool.operators.rnn:Lstm", "long short-term memory along the tokens"),
    "mix.attn.linear": (
        "archtool.operators.linear_attention:LinearAttention",
        "linear attention: elu, cosFormer, Performer",
    ),
    "mix.retention": ("archtool.operators.retention:Retention", "retention: weights that fall with the distance"),
    "ffn.mlp": ("archtool.operators.mlp:Mlp", "two-layer perceptron"),
    "ffn.glu": ("archtool.operators.glu:Glu", "gated perceptron"),
    "pos.abs": ("archtool.operators.positions:Positions", "learned positions, added to the stream"),
    "down.merge": ("archtool.operators.patch_merging:PatchMerging", "a square of neighbours becomes one token"),
    "stem.token": ("archtool.operators.token_stem:TokenStem", "token, position and segment tables"),
    "stem.patch": ("archtool.operators.patch_stem:PatchStem", "image patches with extra tokens"),
    "head.lm": ("archtool.operators.lm_head:LmHead", "logits over the vocabulary"),
    "head.dense": ("archtool.operators.dense:Dense", "one linear layer with an activation"),
    "head.seqpool": ("archtool.operators.seq_pool:SeqPool", "mean of the tokens, weighted by learned scores"),
    "head.pool": ("archtool.operators.pool:Pool", "one vector from many tokens"),
    "mix.conv": ("archtool.operators.conv:GridConv", "convolution on the grid of tokens"),
    "stem.conv": ("archtool.operators.conv_stem:ConvStem", "convolution on the pixels"),
    "mix.conv.dw": ("archtool.operators.depthwise:DepthwiseConv", "a kernel per channel, on the grid or a sequence"),
    "down.conv": ("archtool.operators.down_conv:DownConv", "strided convolution between stages"),
    "down.residual": ("archtool.operators.residual_reduction:ResidualReduction", "strided convolution and skip"),
    "mix.conv.modulate": ("archtool.operators.modulation:Modulation", "values times a context of several kernels"),
    "mix.conv.gated": ("archtool.operators.gated_conv:GatedConv", "products of ever wider convolved contexts"),
    "mix.attn.group": ("archtool.operators.group_attention:GroupAttention", "attention inside groups of tokens"),
    "mix.attn.offset": (
        "archtool.operators.offset_attention:OffsetAttention",
        "attention on a grid with a bias per distance",
    ),
    "gain": ("archtool.operators.gain:Gain", "one learned number times the stream"),
    "mix.pool": ("archtool.operators.grid_pool:GridPool", "mean or maximum of the neighbours on the grid"),
    "stem.point": ("archtool.operators.point_stem:PointStem", "points, or a conditioning vector, as tokens"),
    "stem.series": ("archtool.operators.series_stem:SeriesStem", "patches or variates of a series as tokens"),
    "norm.revin": ("archtool.operators.revin:RevIn", "scaling of a series that its forecast gets back"),
    "pos.continuous": ("archtool.operators.continuous:Continuous", "timestamps or other coordinates as positions"),
    "mix.axis": ("archtool.operators.axis:AlongAxes", "mixing along a chosen axis of the tokens"),
    "mix.attn.residual": (
        "archtool.operators.residual_attention:ResidualAttention",
        "attention that adds the scores before it",
    ),
    "head.forecast": ("archtool.operators.forecast:Forecast", "the next rows of a series"),
    "head.variates": ("archtool.operators.variate_head:VariateHead", "one vector from all variates"),
    "mix.fft.global": ("archtool.operators.fft_gate:SpectralGate", "a learned filter on the tokens' spectrum"),
    "mix.fft.fno": ("archtool.operators.fno:FourierModes", "channel mixing on the lowest frequencies"),
    "mix.dct": ("archtool.operators.dct_gate:CosineGate", "a gain per frequency in the cosine basis"),
    "mix.wavelet": ("archtool.operators.wavelet:HaarMixer", "mixing of Haar wavelet bands"),
    "norm.ada": ("archtool.operators.ada_norm:AdaNorm", "a norm whose gain and shift come from a condition"),
    "mix.mbconv": ("archtool.operators.mbconv:MBConv", "inverted residual, also as a down-sampler"),
    "mix.attn.separable": ("archtool.operators.separable:Separable", "attention with one context vector"),
    "ffn.se": ("archtool.operators.squeeze_excite:SqueezeExcite", "a gate per channel from the mean of all tokens"),
    "topo.unfold": ("archtool.operators.unfold:PatchUnfold", "cells at one place of every patch as a sequence"),
    "topo.fold": ("archtool.operators.unfold:PatchFold", "unfolded patches back on their grid"),
    "act": ("archtool.operators.act:Act", "an activation as a layer"),
    "mix.attn.sr": ("archtool.operators.reduced_attention:ReducedAttention", "attention to a reduced grid"),
    "ffn.conv": ("archtool.operators.conv_mlp:ConvMlp", "perceptron with a depthwise convolution"),
    "stem.overlap": ("archtool.operators.overlap_stem:OverlapStem", "overlapping image patches"),
    "mix.attn.channel": ("archtool.operators.channel_attention:ChannelAttention", "attention between channels"),
    "mix.attn.latent": ("archtool.operators.latent_attention:LatentAttention", "attention through a few latents"),
    "mix.attn.hier": ("archtool.operators.block_attention:BlockAttention", "attention to a block and to summaries"),
    "stem.conv3d": ("archtool.operators.tubelet_stem:TubeletStem", "cubes of a video"),
    "up.repeat": ("archtool.operators.up_repeat:UpRepeat", "every token becomes a square of copies"),
    "up.shuffle": ("archtool.operators.up_shuffle:UpShuffle", "every token becomes a square of tokens"),
    "topo.join": ("archtool.operators.join:Join", "several streams side by side"),
    "topo.chsplit": ("archtool.operators.channel_split:ChannelSplit", "one group of a stream's channels"),
    "head.allmlp": ("archtool.operators.all_mlp:AllMlp", "levels of a pyramid side by side"),
    "head.image": ("archtool.operators.image_head:ImageHead", "tokens of a grid as an image, for outputs"),
    "topo.average": ("archtool.operators.average:Average", "mean of several streams"),
}

CONSTRUCTS: Table = {
    "norm.ln": ("archtool.constructs.norms:LayerNorms", "LayerNorm, before, after or on a branch"),
    "norm.rms": ("archtool.constructs.norms:RmsNorms", "RMSNorm"),
    "norm.bn": ("archtool.constructs.norms:BatchNorms", "BatchNorm with running statistics, GroupNorm of one group"),
    "norm.qk": ("archtool.constructs.norms:QueryKeyNorms", "a norm on each head's queries and keys"),
    "pos.relbias": ("archtool.constructs.positions:Relative", "a bias on the scores by relative position"),
    "pos.rope": ("archtool.constructs.positions:Rotated", "rotary positions"),
    "pos.none": (
        "archtool.constructs.positions:NoPositions",
        "no positions: causality or convolutions order",
    ),
    "mix.identity": ("archtool.constructs.topologies:NoMixing", "no token mixing"),
    "topo.encdec": ("archtool.constructs.topologies:EncoderDecoder", "encoder and decoder"),
    "topo.stages": ("archtool.constructs.topologies:Stages", "stages of falling resolution and growing width"),
    "topo.hybrid": ("archtool.constructs.topologies:Hybrid", "another mixer at each position"),
    "topo.parallel": ("archtool.constructs.topologies:Parallel", "branches side by side, summed"),
    "topo.recursive": ("archtool.constructs.topologies:Recursive", "one block called again"),
    "topo.unet": ("archtool.constructs.graphs:Unet", "down, up, and skips between them"),
    "topo.dual": ("archtool.constructs.graphs:DualStream", "two streams that read each other"),
    "topo.ffnorder": ("archtool.constructs.topologies:Macaron", "several feed-forward layers around one mixer"),
}

STEPS: Table = {
    "train": ("archtool.run.steps.train:Train", "Train a model on data with the loss of its task."),
    "recover": ("archtool.run.steps.recover:Recover", "Distil the parent into the current model."),
    "teach": ("archtool.run.steps.teach:Teach", "Store a teacher's logits on augmented data."),
    "export": ("archtool.run.steps.export:Export", "Write a model so that other programs load it."),
    "eval": ("archtool.run.steps.evaluate:Eval", "Measure a model's quality on data."),
    "prune": ("archtool.run.steps.prune:Prune", "Make a checkpoint structurally smaller."),
    "quantize": ("archtool.run.steps.quantize:Quantize", "Make a checkpoint's numbers smaller."),
    "fold": ("archtool.run.steps.fold:Fold", "Make norms part of the weights beside them, exactly."),
    "bench": ("archtool.run.steps.bench:Bench", "Measure latency side by side with the parent."),
    "nest": ("archtool.run.steps.nest:Nest", "Turn a checkpoint into a nested one."),
    "trim-vocabulary": (
        "archtool.run.steps.trim_vocabulary:TrimVocabulary",
        "Keep only the tokens of a corpus, in the model and in its tokenizer.",
    ),
    "extract": ("archtool.run.steps.extract:Extract", "Cut a submodel out of a nested checkpoint."),
}

ZOO: Table = {
    "efficientformer": ("archtool.zoo.efficientformer:architecture", "EfficientFormer"),
    "sret": ("archtool.zoo.sret:architecture", "sliced recursive transformer"),
    "cct": ("archtool.zoo.cct:architecture", "compact convolutional transformer"),
    "spectformer": ("archtool.zoo.spectformer:architecture", "spectral gating first, attention later"),
    "ascan": ("archtool.zoo.ascan:architecture", "convolutions first, attention later, by words of C and T"),
    "itransformer": ("archtool.zoo.itransformer:architecture", "forecaster whose tokens are variates"),
}

TRANSFORMS: Table = {}

CRITERIA: Table = {
    "magnitude": ("archtool.transforms.prune.criteria.magnitude:criterion", "norm of a unit's weights; no data"),
    "random": ("archtool.transforms.prune.criteria.random:criterion", "by chance, the floor of all criteria"),
    "fisher": ("archtool.transforms.prune.criteria.fisher:criterion", "predicted increase of the loss, on data"),
    "fisher-batch": (
        "archtool.transforms.prune.criteria.fisher:batch_criterion",
        "the same from squared sums over batches (NViT)",
    ),
}

SEARCHERS: Table = {}

RUNTIMES: Table = {
    "torch": ("archtool.measure.runtimes.torch_eager:TorchEager", "PyTorch, eager"),
    "torch-compile": ("archtool.measure.runtimes.torch_compile:TorchCompile", "PyTorch, compiled per shape"),
    "onnxruntime": ("archtool.measure.runtimes.ort:OnnxRuntime", "ONNX Runtime on the CPU"),
    "openvino": ("archtool.measure.runtimes.openvino_cpu:OpenVino", "OpenVINO on the CPU (an extra)"),
}

TASKS: Table = {}

REPORT_PANELS: Table = {}

BUILTINS: Mapping[str, Table] = {
    "families": FAMILIES,
    "operators": OPERATORS,
    "zoo": ZOO,
    "constructs": CONSTRUCTS,
    "steps": STEPS,
    "transforms": TRANSFORMS,
    "criteria": CRITERIA,
    "searchers": SEARCHERS,
    "runtimes": RUNTIMES,
    "tasks": TASKS,
    "report_panels": REPORT_PANELS,
}
