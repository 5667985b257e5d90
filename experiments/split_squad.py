"""Splits a file of SQuAD by article: a train and a dev file without an article in common.

    python -m experiments.split_squad squad/dev-v2.0.json /tmp/squad2

writes train-v2.0.json and dev-v2.0.json for `--task=squad2 --data_dir=/tmp/squad2`, where the training file of
version 2 is not at hand: every fifth article is dev's.
"""

import argparse
import json
from pathlib import Path


def main(source: str, folder: str, every: int = 5) -> None:
    """Writes both files; dev takes the articles number `every`, 2 `every`, ..."""
    content = json.loads(Path(source).read_text("utf-8"))
    Path(folder).mkdir(parents=True, exist_ok=True)
    for split, is_dev in (("train", False), ("dev", True)):
        articles = [article for number, article in enumerate(content["data"], start=1)
                    if (number % every == 0) == is_dev]
        questions = [q for article in articles for paragraph in article["paragraphs"] for q in paragraph["qas"]]
        (Path(folder) / f"{split}-v2.0.json").write_text(json.dumps({**content, "data": articles}), "utf-8")
        print(f"{split}: {len(articles)} articles, {len(questions)} questions, "
              f"{sum(not q['answers'] for q in questions)} without an answer")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Split a file of SQuAD by article.")
    parser.add_argument("source", help="such as dev-v2.0.json")
    parser.add_argument("folder", help="to write both files to")
    main(**vars(parser.parse_args()))
