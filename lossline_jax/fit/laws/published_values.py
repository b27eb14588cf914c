"""Parameter values that papers give, by law and label. Use them to evaluate, to simulate and to compare.

The paper is the law's `source`. The values belong to the data and tokenizers of their authors. They hold only in the
units of `PUBLISHED_UNITS`: an input in another unit gives a wrong number. The values of "overtraining",
"downstream error" and "translation data" are refits of the authors' tables; the authors do not print them.
"""

from math import exp


def _named(names: str, *values: float) -> dict[str, float]:
    return dict(zip(names.split(), values, strict=True))


# law name -> label of the data -> parameter values
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "kaplan size": {"Kaplan et al. 2020": _named("N_c alpha_N", 8.8e13, 0.076)},
    "kaplan tokens": {"Kaplan et al. 2020": _named("D_c alpha_D", 5.4e13, 0.095)},
    "kaplan minimal compute": {"Kaplan et al. 2020": _named("C_c_min alpha_C_min", 3.1e8, 0.050)},
    "kaplan without entropy": {"table 2": _named("N_c D_c alpha_N alpha_D", 6.4e13, 1.8e13, 0.076, 0.103)},
    "kaplan steps": {"table 3": _named("N_c S_c alpha_N alpha_S", 6.5e13, 2.1e3, 0.077, 0.76)},
    "critical batch": {"Kaplan et al. 2020": _named("B_star alpha_B", 2e8, 0.21)},
    "chinchilla": {
        # These unrounded values are in the paper's source. The printed ones (406.4, 410.7, .34, .28) fit the authors'
        # own points four times worse.
        "Hoffmann et al. 2022": _named(
            "E A B alpha beta", exp(0.5267228), exp(6.0073404), exp(6.0179186), 0.33917084, 0.2849083
        ),
        "Besiroglu et al. 2024": _named("E A B alpha beta", 1.8172, 482.01, 2085.43, 0.3478, 0.3658),
    },
    "repetition": {
        "Muennighoff et al. 2023": _named(
            "E A B alpha beta R_D_star R_N_star",
            *(exp(0.6254804), exp(6.255414), exp(7.3049974)),
            *(0.3526596, 0.3526596, 15.387756, 5.309743),
        )
    },
    "overtraining": {
        "C4": _named("E a b eta", 1.50826, 141.277, 189.516, 0.121236),
        "RedPajama": _named("E a b eta", 1.83665, 212.236, 366.687, 0.136425),
        "RefinedWeb": _named("E a b eta", 1.73446, 157.116, 246.207, 0.127197),
    },
    "downstream error": {"RedPajama, 17 tasks": _named("eps k gamma", 0.856992, 2.20649, 0.714591)},
    "diloco size": {
        "data-parallel": _named("A alpha", 18.129, -0.0953),
        "M = 1": _named("A alpha", 18.363, -0.0961),
        "M = 2": _named("A alpha", 18.768, -0.0969),
        "M = 4": _named("A alpha", 19.762, -0.0992),
        "M = 8": _named("A alpha", 21.051, -0.1018),
    },
    "diloco": {
        "loss": _named("A alpha beta", 19.226, -0.0985, 0.0116),
        "inner learning rate": _named("A alpha beta", 22256, -0.8827, 0.2929),
        # A is from version 2 of the paper. Version 1 prints the same A as 0.00709, in sequences of 2048 tokens.
        "global batch, tokens": _named("A alpha beta", 14.521, 0.4695, 0.3399),
    },
    "translation data": {
        "28 Enc, 6 Dec": _named("alpha C p", 0.7641, 0.010637, 0.2105),
        "6 Enc, 28 Dec": _named("alpha C p", 0.8221, 0.015765, 0.2539),
        "6 Enc, 6 Dec": _named("alpha C p", 0.7552, 0.048456, 0.2710),
        "Dec-only": _named("alpha C p", 0.6911, 0.15569, 0.3272),
        "TEnc-LSTM": _named("alpha C p", 0.7691, 0.064608, 0.2661),
    },
    "sparsity": {
        "T5, C4": _named("a_S b_S c_S b_N a_D b_D c", 16.8, 0.722, 45.0, 0.245, 6.90e8, 0.203, 0.651),
        "ViT, JFT-4B": _named("a_S b_S c_S b_N a_D b_D c", 294.0, 0.821, 468.0, 0.392, 2.37e8, 0.890, 4.517),
    },
    "performance": {
        "authors' code": _named(
            "w1 w2 w3 w4 b gamma", 13.95018192, 0.23072027, -0.48523402, 5.39801689, 9.195410648934768, 1.0
        )
    },
    "routing": {
        "S-BASE": _named("a b c d E_start E_max", -0.082, -0.108, 0.009, 1.104, 1.847, 314.478),
        "RL-R": _named("a b c d E_start E_max", -0.083, -0.126, 0.012, 1.111, 1.880, 469.982),
        "HASH": _named("a b c d E_start E_max", -0.087, -0.136, 0.012, 1.157, 4.175, 477.741),
    },
    "vocabulary": {
        "Tao et al. 2024": _named("E A1 A2 B alpha1 alpha2 beta", 5.533, 1.831, 0.196, 2.124, 0.447, 0.671, 0.447)
    },
    "post-training quantisation": {
        "Kumar et al. 2024": _named("C_T gamma_D gamma_N gamma_post", 0.0598, 0.5068, 0.3439, 0.5907)
    },
}

_KAPLAN = "N in parameters without embeddings, D and batches in tokens, C in PF-days (8.64e19 FLOPs), L in nats/token"
_COUNTS = "N in parameters, D in tokens, L in nats/token"

PUBLISHED_UNITS: dict[str, str] = {
    **dict.fromkeys(("kaplan size", "kaplan tokens", "kaplan minimal compute", "kaplan without entropy"), _KAPLAN),
    "kaplan steps": f"{_KAPLAN}, S_min in optimiser steps",
    "critical batch": _KAPLAN,
    "chinchilla": f"{_COUNTS}; N includes embeddings",
    "repetition": f"{_COUNTS}, U_D in tokens",
    "overtraining": "C in FLOPs (6 N D), M in tokens per parameter, L in nats/token of the C4 validation set",
    "downstream error": "L in nats/token of the C4 validation set, err a share of 1",
    "diloco size": "N in parameters, the loss in nats/token",
    "diloco": "N in parameters, M in replicas; the loss in nats/token, the batch in tokens",
    "translation data": "D in millions of sentence pairs, L in nats/token",
    "sparsity": "N in non-zero parameters without embeddings; D in tokens (T5: 65536 a step) or images (ViT)",
    "performance": "T in trillions of tokens, S in billions of parameters, MMLU in points of 100",
    "routing": "N in parameters, the output log10 of nats/token",
    "vocabulary": "N_nv and N_v in millions of parameters, H in billions of characters, L_u in nats/token",
    "post-training quantisation": "N in parameters, D in tokens, P_post in bits, delta in nats/token",
}
