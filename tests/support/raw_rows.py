"""Give rows of public datasets in the format of Hugging Face, written by hand or made from the shared tasks."""

import itertools

# Two rows for each dataset, with common pitfalls: spaces at ends, marks to remove, labels that are not an index.
BY_HAND = {
    "hellaswag": [
        {
            "activity_label": "Making tea",
            "ctx_a": "[header] How to make tea [title] Boil [step] the water.  Wait.",
            "ctx_b": "the Man from É",
            "endings": [" pours it [substeps] out.", "drinks  it   up.", "[title] sleeps.", "ends [title] Next one. "],
            "label": "2",
        },
        {
            "activity_label": "Cook",
            "ctx_a": "A [a [b] c] d.",
            "ctx_b": "",
            "endings": ["a", "b", "c", "d"],
            "label": "0",
        },
    ],
    "arc_easy": [
        {"question": "Why? ", "choices": {"text": ["so", " thus"], "label": ["1", "2"]}, "answerKey": "2"},
        {"question": "What?", "choices": {"text": ["a", "b", "c"], "label": ["A", "B", "C"]}, "answerKey": "A"},
    ],
    "piqa": [
        {"goal": "To dig", "sol1": " use  a spade", "sol2": "use a cup ", "label": 1},
        {"goal": "dresser's “top”", "sol1": "replace\ndrawer", "sol2": "x", "label": 0},
    ],
    "copa": [
        {"premise": "It rained. ", "choice1": "I got wet.", "choice2": "It was dry.", "question": "effect", "label": 0},
        {"premise": "He ran.", "choice1": "A dog bit.", "choice2": "Élan.", "question": "cause", "label": 1},
    ],
    "winogrande": [
        {"sentence": "Ann met Bea, so _ was glad.", "option1": "Ann", "option2": "Bea", "answer": "2"},
        {"sentence": "The _'s lid, not the box_s, shut. ", "option1": "pot", "option2": "Pan", "answer": "1"},
    ],
    "openbookqa": [
        {"question_stem": "The sun", "choices": {"text": ["rises", "is"], "label": ["A", "B"]}, "answerKey": " B"},
        {"question_stem": "A cat ", "choices": {"text": ["eats", "flies"], "label": ["A", "B"]}, "answerKey": "A"},
    ],
    "social_iqa": [
        {"context": "Al fell.", "question": "Why?", "answerA": "ice", "answerB": "a b", "answerC": "no", "label": "3"},
        {"context": "Bo won. ", "question": "And?", "answerA": "x", "answerB": "y", "answerC": "z", "label": "1"},
    ],
    "commonsense_qa": [
        {"question": " Where? ", "choices": {"text": list("vwxyz"), "label": list("ABCDE")}, "answerKey": "D"},
        {"question": "Who {{ is }} it?", "choices": {"text": list("12345"), "label": list("ABCDE")}, "answerKey": "A"},
    ],
    "mmlu": [
        {
            "question": " Find x.\nNow. ",
            "subject": "high_school_us_history",
            "choices": ["1", "2 ", " 3", ""],
            "answer": 2,
        },
        {"question": "Say", "subject": "high_school_us_history", "choices": ["a", "b", "c", "d"], "answer": 0},
    ],
    "boolq": [
        {"passage": "Rain is wet.", "question": "is rain wet", "label": 1},
        {"passage": " Ice\nmelts. ", "question": "does it not", "label": 0},
    ],
    "sciq": [
        {
            "question": "What falls?",
            "support": "\n Rain  falls. ",
            "distractor1": "a",
            "distractor2": "b b",
            "distractor3": " c",
            "correct_answer": "rain",
        },
        {
            "question": "Who?",
            "support": "",
            "distractor1": "a",
            "distractor2": "b",
            "distractor3": "c",
            "correct_answer": "d",
        },
    ],
    "lambada_openai": [
        {"text": "“To be,\n\nor not  to”, he said,\nto be"},
        {"text": "one two"},
    ],
}
BY_HAND["arc_challenge"] = BY_HAND["arc_easy"]


def raw_row(name: str, row: dict) -> dict | None:
    """Return the public row that a row of the shared tasks was made from. None: it is not known."""
    context, options = row["context"], [option.removeprefix(" ") for option in row.get("choices", ())]
    question = context.removeprefix("Question: ").removesuffix("\nAnswer:")
    labels = list("ABCDE")[: len(options)]
    match name:
        case "arc_easy" | "arc_challenge" | "commonsense_qa_cloze":
            choices = {"text": options, "label": labels}
            return {"question": question, "choices": choices, "answerKey": labels[row["gold"]]}
        case "openbookqa":
            choices = {"text": options, "label": labels}
            return {"question_stem": context, "choices": choices, "answerKey": labels[row["gold"]]}
        case "piqa":
            return {"goal": question, "sol1": options[0], "sol2": options[1], "label": row["gold"]}
        case "winogrande":
            contexts = row["partial_contexts"]
            same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*contexts, strict=False))
            stem = "".join(letter for letter, _ in same)
            option1, option2 = (partial[len(stem) :] for partial in contexts)
            sentence = f"{stem}_{row['continuation']}"
            return {"sentence": sentence, "option1": option1, "option2": option2, "answer": str(row["gold"] + 1)}
        case "social_iqa":
            story, _, question = context.removeprefix("Q: ").removesuffix("\nA:").partition(" ")
            answers = dict(zip(("answerA", "answerB", "answerC"), options, strict=True))
            return {"context": story, "question": question, **answers, "label": str(row["gold"] + 1)}
        case "mmlu_cloze":
            return {"question": question, "subject": row["subject"], "choices": options, "answer": row["gold"]}
        case "boolq":
            passage, _, question = context.removesuffix("?\nAnswer:").rpartition("\nQuestion: ")
            return {"passage": passage, "question": question, "label": row["gold"]}
        case "sciq":
            support, _, question = context.removesuffix("\nAnswer:").rpartition("\nQuestion: ")
            names = ("distractor1", "distractor2", "distractor3", "correct_answer")
            return (
                {"support": support, "question": question, **dict(zip(names, options, strict=True))}
                if support
                else None
            )
        case "hellaswag":
            activity, _, story = context.partition(": ")
            return {
                "activity_label": activity,
                "ctx_a": story,
                "ctx_b": "",
                "endings": options,
                "label": str(row["gold"]),
            }
        case "lambada_openai":
            return {"text": f"{context} {row['continuation']}"}
    raise ValueError(name)
