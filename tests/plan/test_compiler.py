"""Compiled programs are read and keep the rules, for presets on TPU slices that this machine does not have.

The slow tests compile with libtpu (`pip install -e '.[check]'`) and are skipped without it. A program takes one
minute of one core. Of the presets that differ in the number of layers alone, only the deepest is compiled here.
`lossline-jax check` compiles all.
"""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lossline_jax.config.data import DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import ChoiceTask, SuiteConfig, ValidationSet
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.presets import PRESETS
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.distributed.chips import chip_named
from lossline_jax.distributed.mesh import build_mesh
from lossline_jax.models.accounting import count_parameters
from lossline_jax.models.model import build_model
from lossline_jax.ops.fsdp import reduce_scatter
from lossline_jax.plan.choose_layout import choose_layout
from lossline_jax.plan.compiler.hlo import Array, Collective, count_by_kind, read_program
from lossline_jax.plan.compiler.programs import (
    Compiled,
    compile_evaluation,
    compile_training,
    mesh_and_model,
    topology_devices,
)
from lossline_jax.plan.compiler.rules import broken_rules
from lossline_jax.plan.estimates import memory

LOOP = """
HloModule m, is_scheduled=true

%cond (p: (s32[], f32[8,128])) -> pred[] {
  %bound = s32[]{:T(128)} constant(12)
  %p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %bound), direction=LT
}

%piece (q: bf16[4,128]) -> bf16[16,128] {
  %q = bf16[4,128]{1,0} parameter(0)
  ROOT %g.1 = bf16[16,128]{1,0} all-gather(%q), channel_id=1, replica_groups={{0,1,2,3}}, dimensions={0}, frontend_attributes={chain_id="3"}
}

%rest_of_it (r: bf16[4,128]) -> bf16[16,128] {
  %r = bf16[4,128]{1,0} parameter(0)
  ROOT %g.2 = bf16[16,128]{1,0} all-gather(%r), channel_id=1, replica_groups={{0,1,2,3}}, dimensions={0}, frontend_attributes={chain_id="3"}
}

%body (p.1: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %p.1 = (s32[], f32[8,128]{1,0:T(8,128)}) parameter(0)
  %w = bf16[4,128]{1,0} custom-call(%p.1), custom_call_target="x"
  %f.1 = bf16[16,128]{1,0} fusion(%w), kind=kOutput, calls=%piece
  %f.2 = bf16[16,128]{1,0} fusion(%w), kind=kOutput, calls=%rest_of_it
  %s = (f32[2,128]{1,0}, f32[3]{0}) reduce-scatter(%a, %b), replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add
  ROOT %t = (s32[], f32[8,128]{1,0}) tuple(%i, %f.1)
}

%never (z: f32[9]) -> f32[9] {
  ROOT %dead = f32[9]{0} all-reduce(%z), replica_groups={{0,1}}, to_apply=%add
}

ENTRY %main (x: f32[8,128]) -> f32[8,128] {
  %x = f32[8,128]{1,0} parameter(0)
  %loop = (s32[], f32[8,128]{1,0}) while(%x), condition=%cond, body=%body
  %sum = f32[100]{0} all-reduce(%y), replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, to_apply=%add
  %cp = (bf16[10]{0}, bf16[10]{0:S(1)}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%v), source_target_pairs={{0,1},{1,0}}
  %done = bf16[10]{0} collective-permute-done(%cp)
  ROOT %out = f32[8,128]{1,0} get-tuple-element(%loop), index=1
}
"""  # noqa: E501


def test_collectives_count_as_often_as_their_loop_runs_and_once_however_many_pieces():
    program = read_program(LOOP)
    assert program.uncounted_loops == 0
    assert count_by_kind(program) == {
        "all-gather": (12, 12 * 16 * 128 * 2 * 3 / 4),
        "reduce-scatter": (12, 12 * (2 * 128 + 3) * 4 * 3),
        "all-reduce": (1, 400 * 2 * 3 / 4),
        "collective-permute": (1, 20),
    }
    assert Array("f32", (9,)) not in program.buffers


def test_a_known_trip_count_is_used_and_an_unknown_one_is_reported():
    known = LOOP.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"5"}}')
    assert count_by_kind(read_program(known))["reduce-scatter"][0] == 5
    unknown = read_program(LOOP.replace("direction=LT", "direction=NE"))
    assert unknown.uncounted_loops == 1
    assert count_by_kind(unknown)["reduce-scatter"][0] == 1


@pytest.mark.parametrize(("devices", "axis"), [(8, 0), (8, 1), (4, 1)])
def test_a_sum_scattered_in_two_hops_is_the_sum_scattered_in_one(devices, axis):
    mesh = build_mesh(jax.devices()[:devices], data=devices)
    x = jnp.asarray(np.random.default_rng(0).integers(-9, 9, (devices, 16, 24)), jnp.float32)
    spec = P(*[None] * axis, "data")

    def scatter(in_two):
        local = lambda x: reduce_scatter(x[0], axis, in_two)
        run = jax.shard_map(local, mesh=mesh, in_specs=P("data"), out_specs=spec, axis_names={"data"}, check_vma=False)
        return jax.jit(run)(x)

    np.testing.assert_array_equal(scatter(True), x.sum(axis=0))
    np.testing.assert_array_equal(scatter(False), x.sum(axis=0))


MODEL = build_model(LlamaConfig(d_model=16, num_layers=2, num_heads=2, d_ff=32), 512)


def compile_here(step, *arguments, rows_held, minimum=1e12):
    compiled = jax.jit(step).lower(*arguments).compile()
    return Compiled("train", 0, 0, 0, 0, 0, read_program(compiled.as_text()), 0.0, minimum, rows_held)


def test_a_program_that_holds_and_gathers_logits_and_sends_too_much_breaks_the_rules():
    """The program is a careless loss that keeps its logits, over a vocabulary that is sharded."""
    mesh = build_mesh(jax.devices(), data=8)
    split = lambda *spec: jax.NamedSharding(mesh, P(*spec))

    def bad(x_BTD, unembed_DV):
        logits_BTV = jax.lax.with_sharding_constraint(x_BTD @ unembed_DV, split(None, None, "data"))
        whole_BTV = jax.lax.with_sharding_constraint(jnp.tanh(logits_BTV), split())
        return jax.lax.with_sharding_constraint(jnp.sort(whole_BTV, axis=-1), split())

    x_BTD = jax.ShapeDtypeStruct((8, 32, 16), jnp.float32, sharding=split())
    unembed_DV = jax.ShapeDtypeStruct((16, 512), jnp.float32, sharding=split(None, "data"))
    compiled = compile_here(bad, x_BTD, unembed_DV, rows_held=8 * 32, minimum=1000.0)
    broken = " | ".join(broken_rules(compiled, MODEL, chip_named("v5e"), model_parallel=1))
    assert "float32 logits of a whole batch" in broken
    assert "logits are gathered" in broken
    assert "times the least that FSDP must" in broken


def test_all_to_all_and_too_little_memory_break_the_rules():
    program = read_program(LOOP.replace("all-reduce(%y)", "all-to-all(%y)"))
    compiled = Compiled("train", 20 * 10**9, 0, 0, 0, 0, program, 0.0, 1e12, 10**9)
    broken = broken_rules(compiled, MODEL, chip_named("v5e"), model_parallel=1)
    assert [rule.split(":")[0].split(" by ")[0] for rule in broken] == ["does not fit", "activations are exchanged"]
    fits = Compiled("train", 10**9, 0, 0, 0, 0, read_program(LOOP), 0.0, 1e12, 10**9)
    assert broken_rules(fits, MODEL, chip_named("v5e"), model_parallel=1) == ()


def test_a_sum_sends_twice_what_its_scattered_half_does():
    whole, shard = (Array("f32", (size,)) for size in (800, 100))
    assert (
        Collective("all-reduce", (whole,), 8, 1).sent_bytes
        == 2 * Collective("reduce-scatter", (shard,), 8, 1).sent_bytes
    )


def run_of(name, batch_size=256, context_length=2048):
    preset = PRESETS[name]
    return RunConfig(
        model=preset.config,
        data=DataConfig((("web", 1.0),)),
        tokenizer=TrainedTokenizer("web", preset.vocab_size),
        context_length=context_length,
        batch_size=batch_size,
        tokens=10**9,
    )


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("study-")])
def test_every_model_of_the_study_fits_sixteen_v5e_by_the_estimate(name):
    run, chip = run_of(name), chip_named("v5e")
    vocab_size = PRESETS[name].vocab_size
    chosen = choose_layout(run, vocab_size, ExecutionConfig(), devices=16, chip=chip)
    assert memory(run, vocab_size, chosen).total < chip.hbm_bytes
    assert chosen.microbatch == chosen.rows == 16  # one microbatch, because each would send the parameters again


# The deepest preset of each width, architecture and vocabulary. The other slices have the largest preset.
SLICES = [
    *[("v5e:4x4", f"study-llama-{shape}") for shape in ("1024x12", "512x12", "256x12", "256x4", "1024x25")],
    *[("v5e:4x4", f"study-mamba2-{shape}") for shape in ("1024x24", "512x24", "256x24", "1360x24")],
    ("v5p:2x2x2", "study-llama-1024x12"),
    ("v4:2x2x2", "study-mamba2-1024x24"),
]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.parametrize(("topology", "name"), SLICES)
def test_the_programs_of_a_preset_keep_the_rules(topology, name):
    run, vocab_size = run_of(name), PRESETS[name].vocab_size
    suite = SuiteConfig((ValidationSet("web"),), choice=(ChoiceTask("task", "x"),), context_length=1024, overlap=256)
    study = StudyConfig("s", (), (run,), suite, x="web", y="task")
    devices, chip = topology_devices(topology)
    mesh, model, execution = mesh_and_model(run, vocab_size, ExecutionConfig(), devices=devices, chip=chip)
    training = compile_training(run, model, execution, mesh)
    assert broken_rules(training, model, chip, 1) == ()
    evaluation = compile_evaluation(study, run, model, fsdp=None, mesh=mesh)
    assert broken_rules(evaluation, model, chip, 1) == ()

    layout = choose_layout(run, vocab_size, ExecutionConfig(), devices=len(devices), chip=chip)
    estimate = memory(run, vocab_size, layout)
    batch_bytes = run.tokens_per_step * 12 / len(devices)
    state_bytes = training.argument_bytes - batch_bytes
    # arrays are padded to whole tiles, so a small array takes more memory than its numbers
    assert state_bytes == pytest.approx(estimate.parameters + estimate.optimiser, rel=0.02)
    assert 0.9 < estimate.total / training.hbm_bytes < 1.25
    assert count_parameters(run.model, vocab_size).total == sum(
        leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: model.init(jax.random.key(0))))
    )
