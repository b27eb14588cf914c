"""lossline: a JAX laboratory for loss-to-loss scaling laws.

    import lossline_jax as ll

    study = ll.Study.from_file("experiments/quickstart.py", tokens=100_000)
    ll.show(study.plan())

Each name is loaded when it is first used. `import lossline_jax` alone does not import jax.
"""

from etils import epy as _epy

# setup.py reads the next line.
__version__ = "0.2.0"

with _epy.lazy_api_imports(globals()):
    from lossline_jax import fit
    from lossline_jax.config.custom import CustomAlgorithm, CustomObjective, CustomOptimiser
    from lossline_jax.config.data import (
        BuiltinCorpus,
        ByteTokenizer,
        DataConfig,
        FilesCorpus,
        HuggingFaceCorpus,
        HuggingFaceTokenizer,
        SentencePieceFile,
        TrainedTokenizer,
    )
    from lossline_jax.config.evaluation import ChoiceTask, ClozeTask, SuiteConfig, ValidationSet
    from lossline_jax.config.execution import ExecutionConfig
    from lossline_jax.config.model import GPT2Config, GPTNeoXConfig, LlamaConfig, Mamba2Config, MambaConfig
    from lossline_jax.config.presets import preset
    from lossline_jax.config.study import RunConfig, StudyConfig
    from lossline_jax.config.training import DataParallel, NextToken, OptimConfig, ScheduleConfig
    from lossline_jax.errors import LosslineError
    from lossline_jax.losses.table import read_losses
    from lossline_jax.pipeline.study import Study
    from lossline_jax.report.figures.draw import draw
    from lossline_jax.summary import show
    from lossline_jax.weights.exchange import export_weights, import_weights

__all__ = [
    "BuiltinCorpus",
    "ByteTokenizer",
    "ChoiceTask",
    "ClozeTask",
    "CustomAlgorithm",
    "CustomObjective",
    "CustomOptimiser",
    "DataConfig",
    "DataParallel",
    "ExecutionConfig",
    "FilesCorpus",
    "GPT2Config",
    "GPTNeoXConfig",
    "HuggingFaceCorpus",
    "HuggingFaceTokenizer",
    "LlamaConfig",
    "LosslineError",
    "Mamba2Config",
    "MambaConfig",
    "NextToken",
    "OptimConfig",
    "RunConfig",
    "ScheduleConfig",
    "SentencePieceFile",
    "Study",
    "StudyConfig",
    "SuiteConfig",
    "TrainedTokenizer",
    "ValidationSet",
    "draw",
    "export_weights",
    "fit",
    "import_weights",
    "preset",
    "read_losses",
    "show",
]
