"""The shapes of the benchmarked models: width, depth, vocabulary, context, and a batch for each architecture."""

from dataclasses import dataclass

from lossline_jax.config.model import LlamaConfig, Mamba2Config, MambaConfig, ModelConfig, round_up


@dataclass(frozen=True)
class Shape:
    """A size of model. Mamba models get twice the layers, because their blocks have no MLP."""

    d_model: int
    num_layers: int
    num_heads: int
    vocab_size: int
    length: int  # tokens of a sequence
    batches: dict[str, int]  # sequences, by architecture; few where the peer takes minutes a step

    def config(self, architecture: str) -> ModelConfig:
        d, layers = self.d_model, self.num_layers
        if architecture == "llama":
            return LlamaConfig(d, layers, self.num_heads, d_ff=round_up(8 * d // 3, 32))
        if architecture == "mamba2":
            heads = 2 * d // 32
            return Mamba2Config(
                d,
                2 * layers,
                heads,
                d_inner=2 * d,
                d_state=64,
                conv_width=4,
                conv_bias=True,
                dt_bias=True,
            )
        return MambaConfig(d, 2 * layers, tied_embeddings=False)


SHAPES = {
    "S": Shape(64, 4, 2, 512, 128, {"llama": 32, "mamba2": 16, "mamba": 8}),
    "M": Shape(128, 6, 4, 2048, 256, {"llama": 16, "mamba2": 8, "mamba": 4}),
    "L": Shape(256, 8, 8, 4096, 256, {"llama": 16, "mamba2": 4, "mamba": 4}),
    "XL": Shape(512, 8, 8, 4096, 256, {"llama": 4, "mamba2": 4, "mamba": 4}),
}
