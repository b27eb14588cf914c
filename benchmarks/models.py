"""Compare the training step and the forward pass with torch: same weights, batch and threads, float32, by turns.

python benchmarks/models.py --help
"""

import argparse
import json
import sys
from pathlib import Path

from shapes import SHAPES, Shape
from timing import interleave, median_cost, quiet_transformers, ratios, use_cores

from lossline_jax.distributed.devices import configure_devices
from lossline_jax.formatting import text_table

PEERS = {"llama": ["hf", "compact", "compiled"], "mamba2": ["hf"], "mamba": ["hf"]}
LABELS = {"hf": "transformers", "compact": "SDPA", "compiled": "SDPA torch.compile"}
HEADER = ("model", "shape", "pass", "peer", "ours tok/s", "peer tok/s", "wall x", "CPU x")
MAX_LOSS_GAP = 1e-3  # nats/token


def main() -> None:
    options = _parse()
    use_cores(options.threads)
    quiet_transformers()
    from ours import EXECUTION

    configure_devices(EXECUTION)
    rows = []
    for architecture in options.models:
        for name in options.shapes:
            rows += _compare(architecture, name, options)
    print(text_table(HEADER, [[row[column] for column in HEADER] for row in rows]))
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options), "rows": rows}, indent=1, default=str) + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["S", "M"])
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=LABELS,
        default=list(LABELS),
        help="peers to compare with; a model takes those that it has",
    )
    parser.add_argument("--passes", nargs="+", choices=("train", "forward"), default=["train", "forward"])
    parser.add_argument("--batch", type=int, help="sequences a step; default: those of the shape")
    parser.add_argument("--threads", type=int, default=2, help="cores; 1 leaves no waiting in the CPU-seconds")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; a ratio is the median over them")
    parser.add_argument("--seconds", type=float, default=0.5, help="least seconds of a turn")
    parser.add_argument("--json", type=Path, help="file to write the rows to as well")
    return parser.parse_args()


def _compare(architecture: str, name: str, options: argparse.Namespace) -> list[dict]:
    """Return one row for each pass and peer."""
    from ours import scoring, training
    from peers import peers

    shape: Shape = SHAPES[name]
    batch = options.batch or shape.batches[architecture]
    run = training(shape.config(architecture), shape.vocab_size, batch, shape.length)
    names = [peer for peer in options.peers if peer in PEERS[architecture]]
    peer_models = peers(names, run, batch, shape.length, options.threads)
    scored = scoring(run, batch, shape.length)
    _check_losses({"ours": run, **peer_models}, f"{architecture} {name}")
    calls = {
        "train": {"ours": run.train, **{peer: model.train for peer, model in peer_models.items()}},
        "forward": {"ours": scored.score, **{peer: model.score for peer, model in peer_models.items()}},
    }
    rows = []
    for kind in options.passes:
        costs = interleave(calls[kind], options.rounds, options.seconds)
        tokens = batch * shape.length
        for peer in names:
            our_cost, peer_cost = median_cost(costs["ours"]), median_cost(costs[peer])
            wall, cpu = ratios(costs[peer], costs["ours"])
            figures = (f"{tokens / our_cost.wall:,.0f}", f"{tokens / peer_cost.wall:,.0f}", str(wall), str(cpu))
            row = dict(zip(HEADER, (architecture, f"{name} B{batch}", kind, LABELS[peer], *figures), strict=True))
            detail = {"ours": vars(our_cost), "peer_cost": vars(peer_cost), "wall": vars(wall), "cpu": vars(cpu)}
            rows.append({**row, **detail, "tokens": tokens})
            print("  ".join(row.values()), file=sys.stderr, flush=True)
    return rows


def _check_losses(sides: dict, title: str) -> None:
    """End the program unless all sides have the same loss. Otherwise the comparison would mean nothing."""
    losses = {name: side.first_loss() for name, side in sides.items()}
    print(f"{title}: loss " + "  ".join(f"{name} {loss:.5f}" for name, loss in losses.items()), file=sys.stderr)
    if any(abs(loss - losses["ours"]) > MAX_LOSS_GAP for loss in losses.values()):
        sys.exit(f"benchmarks: {title}: the losses of step 0 differ by more than {MAX_LOSS_GAP}")


if __name__ == "__main__":
    main()
