"""Make tasks of lm-evaluation-harness over rows in memory, from its own YAML, templates and functions. No network."""

from pathlib import Path

import datasets
import lm_eval
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

TASKS = Path(lm_eval.__file__).parent / "tasks"


def harness_task(yaml_file: str, rows: list[dict]) -> ConfigurableTask:
    """Return the task of a YAML file below lm_eval/tasks, with `rows` as the split that it scores."""
    config = load_yaml(TASKS / yaml_file, resolve_func=True)
    split = "test" if config.get("test_split") else "validation"

    def load(**_):
        return {split: datasets.Dataset.from_list(rows)}

    unused = dict.fromkeys(("training_split", "validation_split", "test_split", "fewshot_split", "fewshot_config"))
    config |= unused | {f"{split}_split": split, "custom_dataset": load, "num_fewshot": 0}
    for name in ("tag", "task_alias", "group"):
        config.pop(name, None)
    return ConfigurableTask(config=config)


def harness_requests(task: ConfigurableTask) -> list[tuple[list[tuple[str, str]], int]]:
    """Return for each row the (context, continuation) pairs that the harness scores, and the index of the right one."""
    rows = []
    for doc in task.eval_docs:
        requests = task.construct_requests(doc=doc, ctx=task.fewshot_context(doc, 0), metadata=("", 0, 0))
        pairs = [request.args for request in (requests if isinstance(requests, list) else [requests])]
        gold = 0
        if task.OUTPUT_TYPE == "multiple_choice":
            gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
            if isinstance(gold, str):
                gold = task.doc_to_choice(doc).index(gold)
        rows.append((pairs, gold))
    return rows
