"""Retrieval: the second sentence of every true pair, found by the first among all second sentences.

The queries are embedded by the model, the documents by whoever made the index: the model itself, or another one whose
metric space it shares (MatFormer, Devvrit et al. 2023: a small submodel asks the large one's index). Documents are the
distinct second sentences of all pairs. Of a query's ranking are left out: the sentence itself, and its other true
documents. A tie counts against the model. In scored data, pairs of at least `TaskOptions.least_score` are true.
"""

from typing import TYPE_CHECKING, Any

from archtool.data.dataset import Pairs
from archtool.errors import InputError
from archtool.evaluate.metrics import Metrics
from archtool.evaluate.registry import TASKS, Settings
from archtool.evaluate.statistics import mean_stderr
from archtool.evaluate.tasks.similarity import embed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

CHUNK = 1024
"""Queries compared with all documents at once."""


def run(module: "nn.Module", settings: Settings) -> Metrics:
    """Recall among the best 1 and 10, and the mean reciprocal rank, over the true pairs."""
    import numpy as np

    data, options = settings.batches.data, settings.options
    if data.pairs is None:
        raise InputError("the data has no pairs; retrieval needs them", "give sentence1 and sentence2")
    true_Q2 = true_pairs(data.pairs, data.spec.labelled, options.least_score)
    queries_ND = embed(module, settings)
    index_ND = queries_ND if options.index_ND is None else options.index_ND
    if queries_ND.shape != index_ND.shape:
        shapes = f"{tuple(queries_ND.shape)} and {tuple(index_ND.shape)}"
        raise InputError(f"embeddings of the model and of the index differ in shape: {shapes}", "share one width")
    documents = np.unique(data.pairs.rows_P2[:, 1])
    ranks_Q = ranks(queries_ND, index_ND, true_Q2, documents)
    each = {"recall@1": ranks_Q <= 1, "recall@10": ranks_Q <= 10, "mrr": 1 / ranks_Q}
    values = {name: float(row.mean()) for name, row in each.items()}
    stderr = {name: mean_stderr(row.astype(float)) for name, row in each.items()}
    counts = {"queries": float(len(true_Q2)), "documents": float(len(documents))}
    return Metrics("retrieval", values | counts, len(true_Q2), stderr, TASKS["retrieval"].directions)


def true_pairs(pairs: Pairs, scored: bool, least: float) -> "NDArray[Any]":
    """The distinct true pairs (Q, 2) of rows; `InputError` where there is none."""
    import numpy as np

    rows_P2 = pairs.rows_P2[pairs.scores_P >= least] if scored else pairs.rows_P2
    if not len(rows_P2):
        what = f"no pair has a score of {least:g} or more (the highest is {pairs.scores_P.max():g})"
        raise InputError(what, "give a lower --least-score")
    found: NDArray[Any] = np.unique(rows_P2, axis=0)
    return found


def ranks(
    queries_ND: "Tensor", index_ND: "Tensor", true_Q2: "NDArray[Any]", documents: "NDArray[Any]"
) -> "NDArray[Any]":
    """The rank (Q,), from 1, of each true pair's document, by cosine similarity."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    column = {int(row): i for i, row in enumerate(documents)}
    others: dict[int, list[int]] = {}
    for query, document in true_Q2.tolist():
        others.setdefault(query, [column[query]] if query in column else []).append(column[document])
    index_MD = F.normalize(index_ND[torch.from_numpy(documents)].double(), dim=-1)
    found = []
    for rows in np.array_split(true_Q2, -(-len(true_Q2) // CHUNK)):
        asked_QD = F.normalize(queries_ND[torch.from_numpy(rows[:, 0])].double(), dim=-1)
        near_QM = asked_QD @ index_MD.T
        for near_M, (query, document) in zip(near_QM, rows.tolist(), strict=True):
            wanted = float(near_M[column[document]])
            near_M[others[query]] = float("-inf")
            found.append(1 + int((near_M >= wanted).sum()))
    return np.asarray(found)
