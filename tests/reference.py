"""PyTorch's BERT, and random small models and batches to compare with it. Needs torch.

Letters: N sequences, T tokens a row, C outputs, L layers.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import transformers
from cases import Case

torch.set_num_threads(1)  # the models are tiny
PROBLEM_TYPES = {"classification": "single_label_classification", "regression": "regression",
                 "multi_label": "multi_label_classification"}


@dataclass(frozen=True)
class Outputs:
    """What PyTorch computes, as numpy: states [L + 1][N, T, D], pooled [N, D], logits [N, C], loss, gradients."""

    states: list[np.ndarray]
    pooled: np.ndarray
    logits: np.ndarray
    loss: float
    gradients: dict[str, np.ndarray]


def model(case: Case) -> transformers.BertForSequenceClassification:
    """A random model of a case; dropout off."""
    config = transformers.BertConfig(**asdict(case.config), num_labels=case.outputs,
                                     problem_type=PROBLEM_TYPES[case.kind], attn_implementation="eager")
    return randomised(transformers.BertForSequenceClassification(config).eval(), case.seed)


def randomised(bert: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Every parameter random, LayerNorm and biases too, so that no term is trivially zero."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, value in bert.named_parameters():
            one = name.endswith("LayerNorm.weight")
            scale = 0.8 * bert.config.hidden_size ** -0.5 if value.ndim == 2 and "embeddings" not in name else 0.3
            value.copy_(torch.from_numpy(one + scale * rng.normal(size=value.shape)))
    return bert


def tensors(bert: torch.nn.Module) -> dict[str, np.ndarray]:
    """Name -> array of every parameter."""
    return {name: value.detach().numpy().copy() for name, value in bert.named_parameters()}


def forward(bert: torch.nn.Module, batch: dict[str, np.ndarray]) -> Any:
    """The model's output on a padded batch (fields of `data.py`, one sequence a row)."""
    kind = bert.config.problem_type
    labels = torch.from_numpy(batch["labels"][:, 0])
    return bert(input_ids=torch.from_numpy(batch["tokens"]).long(),
                attention_mask=torch.from_numpy(batch["sequence"]).long(),
                token_type_ids=torch.from_numpy(batch["types"]).long(),
                labels=labels.long() if kind == PROBLEM_TYPES["classification"] else labels,
                output_hidden_states=True)


def compute(bert: torch.nn.Module, batch: dict[str, np.ndarray]) -> Outputs:
    """Everything that parity looks at."""
    bert.zero_grad()
    out = forward(bert, batch)
    out.loss.backward()
    pooled = bert.bert.pooler(out.hidden_states[-1])
    return Outputs([s.detach().numpy() for s in out.hidden_states], pooled.detach().numpy(),
                   out.logits.detach().numpy(), float(out.loss.detach()),
                   {name: value.grad.numpy() for name, value in bert.named_parameters()})


def adamw_losses(bert: torch.nn.Module, batches: list[dict[str, np.ndarray]], **settings: float) -> list[float]:
    """The losses of a run of torch.optim.AdamW, one step a batch."""
    optimizer = torch.optim.AdamW(bert.parameters(), **settings)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = forward(bert, batch).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
