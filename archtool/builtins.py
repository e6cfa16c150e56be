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
    "timm_vit": ("archtool.families.timm_vit:TimmVit", "ViT and DeiT with timm's names"),
    "llama": ("archtool.families.llama:Llama", "Llama 2/3, Mistral, Qwen2, Qwen3"),
}

OPERATORS: Table = {
    "mix.attn": ("archtool.operators.attention:Attention", "softmax self-attention"),
    "ffn.mlp": ("archtool.operators.mlp:Mlp", "two-layer perceptron"),
    "ffn.glu": ("archtool.operators.glu:Glu", "gated perceptron"),
    "stem.token": ("archtool.operators.token_stem:TokenStem", "token, position and segment tables"),
    "stem.patch": ("archtool.operators.patch_stem:PatchStem", "image patches with extra tokens"),
    "head.lm": ("archtool.operators.lm_head:LmHead", "logits over the vocabulary"),
    "head.dense": ("archtool.operators.dense:Dense", "one linear layer with an activation"),
    "head.pool": ("archtool.operators.pool:Pool", "one vector from many tokens"),
    "topo.average": ("archtool.operators.average:Average", "mean of several streams"),
}

STEPS: Table = {
    "train": ("archtool.run.steps.train:Train", "Train a model on data with the loss of its task."),
    "recover": ("archtool.run.steps.recover:Recover", "Distil the parent into the current model."),
    "eval": ("archtool.run.steps.evaluate:Eval", "Measure a model's quality on data."),
    "prune": ("archtool.run.steps.prune:Prune", "Make a checkpoint structurally smaller."),
    "quantize": ("archtool.run.steps.quantize:Quantize", "Make a checkpoint's numbers smaller."),
    "extract": ("archtool.run.steps.extract:Extract", "Cut a submodel out of a nested checkpoint."),
}

TRANSFORMS: Table = {}

SEARCHERS: Table = {}

RUNTIMES: Table = {}

TASKS: Table = {}

REPORT_PANELS: Table = {}

BUILTINS: Mapping[str, Table] = {
    "families": FAMILIES,
    "operators": OPERATORS,
    "steps": STEPS,
    "transforms": TRANSFORMS,
    "searchers": SEARCHERS,
    "runtimes": RUNTIMES,
    "tasks": TASKS,
    "report_panels": REPORT_PANELS,
}
