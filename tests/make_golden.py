"""Writes tests/golden/*.npz: small random BERTs, a batch for each, and PyTorch's numbers at three depths.

    python tests/make_golden.py        (needs torch; the files are made once and kept)
"""

import dataclasses
import json
from pathlib import Path

import cases
import numpy as np
import reference

from flaxbert.bert import BertConfig

SMALL = BertConfig(vocab_size=29, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                   intermediate_size=24, max_position_embeddings=13)
CASES = {
    "erf_classification": cases.Case(1, SMALL, "classification", 3, 3, 11),
    "tanh_regression": cases.Case(2, dataclasses.replace(SMALL, hidden_act="gelu_new", num_attention_heads=4,
                                                         layer_norm_eps=1e-5), "regression", 1, 3, 9),
    "one_layer_multi_label": cases.Case(3, dataclasses.replace(SMALL, num_hidden_layers=1, num_attention_heads=1),
                                        "multi_label", 4, 2, 13)}
# From the bottom, the middle and the top.
NORMS = ("bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.attention.self.query.weight",
         "bert.encoder.layer.0.output.LayerNorm.weight", "bert.pooler.dense.weight", "classifier.bias")


def main() -> None:
    for name, case in CASES.items():
        bert, batch = reference.model(case), cases.batch(case, 0)
        out = reference.compute(bert, batch)
        about = {"config": dataclasses.asdict(case.config), "kind": case.kind}
        np.savez_compressed(
            Path(__file__).parent / "golden" / f"{name}.npz", about=json.dumps(about),
            **{f"weights/{tensor}": value for tensor, value in reference.tensors(bert).items()},
            **{f"batch/{field}": value for field, value in batch.items()},
            **{f"norm/{tensor}": np.linalg.norm(out.gradients[tensor]) for tensor in NORMS},
            **{"want/embeddings": out.states[0], "want/layer_1": out.states[1], "want/logits": out.logits,
               "want/loss": np.float32(out.loss)})


if __name__ == "__main__":
    main()
